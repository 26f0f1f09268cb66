"""Engines are compared with FP32 before they are kept, over a fake GPU that computes as told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastseg import artifacts, building
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.backends.selection import plan
from fastseg.backends.tensorrt import engine
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.engine_cache import EngineCache
from fastseg.building import Request, build
from fastseg.cuda import device as cuda_device
from fastseg.errors import ParityError
from fastseg.testing import tiny_sam_folder, tiny_unet_folder
from tests.fakes import fake_machine
from tests.fakes.fake_cuda import FakeCuda
from tests.fakes.fake_engine import FakeEngine

pytest.importorskip("onnxruntime", reason="the fake engines run their graphs in it")

Disturb = Callable[[str, np.ndarray], np.ndarray]


@pytest.fixture(params=[tiny_sam_folder, tiny_unet_folder])
def folder(request, tmp_path) -> artifacts.ModelFolder:
    """A model of each family."""
    return artifacts.read(request.param(tmp_path / "model"))


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path) -> None:
    """A machine with a GPU, TensorRT-RTX and pycuda, none of which is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    fake_machine.with_gpu(monkeypatch)
    fake_machine.with_runtimes(monkeypatch)
    monkeypatch.setattr(tensorrt_library, "check_targets", lambda flavour, asked: ("portable",))


@pytest.fixture
def engines(monkeypatch, folder):
    """Let engines compute what their graphs do in ONNX Runtime, disturbed as the test says."""
    device = FakeCuda()
    monkeypatch.setattr(cuda_device, "open_device", lambda index: device)

    def build_engine(path: Path, graph, order, progress) -> bytes:
        return graph.name.encode()

    monkeypatch.setattr(building, "build_engine", build_engine)

    def use(disturb: Disturb) -> None:
        def load_engine(content, flavour, gpu, title):
            stored = folder.manifest.graphs[content.decode()]
            exact = OrtBackend(folder.file(stored), stored.graph)

            def compute(inputs):
                return {name: disturb(name, one) for name, one in exact.run(inputs).items()}

            return FakeEngine(stored.graph, compute, device=device)

        monkeypatch.setattr(engine, "load_engine", load_engine)

    return use


def files(folder: Path | None) -> list[Path]:
    return sorted(folder.iterdir()) if folder and folder.is_dir() else []


REQUEST = Request("tensorrt-rtx", "fp32")


def test_engines_that_give_the_masks_of_fp32_are_kept_and_chosen(folder, engines):
    engines(lambda name, array: array)
    built = build(folder, REQUEST)
    assert built.comparison.passed
    assert built.comparison.numbers["rows"][-1]["mask_iou_mean"] == 1.0
    assert "mask" in built.table
    graph = next(iter(folder.manifest.graphs.values())).graph.name
    assert plan(folder, graph).backend == "tensorrt-rtx"


def test_engines_with_other_masks_are_refused_with_a_table(folder, engines):
    def disturb(name: str, array: np.ndarray) -> np.ndarray:
        wrong = name in ("low_res_logits", "probabilities")
        return np.roll(array, array.shape[-1] // 3, axis=-1) if wrong else array

    engines(disturb)
    with pytest.raises(ParityError, match=r"too far from.*\n") as caught:
        build(folder, REQUEST)
    assert "mask IoU" in str(caught.value)
    assert files(EngineCache().folder) == []
    graph = next(iter(folder.manifest.graphs.values())).graph.name
    assert plan(folder, graph).backend == "onnxruntime"
