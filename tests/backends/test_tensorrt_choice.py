"""Engines of a model are chosen, opened and run through the whole pipeline, over a fake GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastseg
from fastseg import artifacts
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.backends.selection import choose, open_graph, plan
from fastseg.backends.tensorrt import engine, open_engine
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.engine_cache import (
    ENGINES,
    Comparison,
    EngineCache,
    card_of,
    write_engine,
)
from fastseg.backends.tensorrt.engine_key import key_of
from fastseg.backends.tensorrt.library import TENSORRT, TENSORRT_RTX
from fastseg.cuda import device as cuda_device
from fastseg.errors import BackendError, BackendUnavailableError, EngineError
from fastseg.testing import tiny_sam_folder, tiny_unet_folder
from tests.fakes import fake_machine
from tests.fakes.fake_cuda import FakeCuda
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.fake_machine import ADA

pytest.importorskip("onnxruntime", reason="the fake engines run their graphs in it")

CONTENT = b"an engine"


@pytest.fixture
def device() -> FakeCuda:
    return FakeCuda()


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path, device) -> None:
    """A machine with a GPU, TensorRT and pycuda, none of which is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    fake_machine.with_gpu(monkeypatch)
    fake_machine.with_runtimes(monkeypatch)
    monkeypatch.setattr(cuda_device, "open_device", lambda index: device)


def build(folder: artifacts.ModelFolder, *precisions: str, flavour=TENSORRT_RTX, passed=True):
    """Put engines into the folder that say where they come from."""
    targets, gpu = (("portable",), None) if flavour is TENSORRT_RTX else ((), ADA)
    comparison = Comparison("passed", ADA, {}) if passed else Comparison("not compared")
    for stored in folder.manifest.graphs.values():
        if stored.precision in precisions:
            key = key_of(stored, flavour, "1.7", targets=targets, gpu=gpu)
            content = f"{stored.graph.name} {stored.precision}".encode()
            write_engine(folder.path / ENGINES, content, card_of(key, content, comparison))


@pytest.fixture
def loaded(monkeypatch, device):
    """Let engines compute what their graphs do in ONNX Runtime; the list is of what was read."""
    read: list[str] = []

    def use(folder: artifacts.ModelFolder) -> list[str]:
        def load_engine(content, flavour, gpu, title):
            read.append(content.decode())
            name = content.decode().split()[0]
            stored = folder.manifest.graphs[name]
            exact = OrtBackend(folder.file(stored), stored.graph)
            return FakeEngine(stored.graph, exact.run, device=device)

        monkeypatch.setattr(engine, "load_engine", load_engine)
        return read

    return use


@pytest.fixture
def unet(tmp_path) -> artifacts.ModelFolder:
    return artifacts.read(tiny_unet_folder(tmp_path / "unet"))


@pytest.fixture
def both(unet) -> artifacts.ModelFolder:
    """A folder that holds its graph in two precisions."""
    single = unet.manifest.graphs["network"]
    graphs = {"network": single, "network fp16": replace(single, precision="fp16")}
    return replace(unet, manifest=replace(unet.manifest, graphs=graphs))


# What is chosen.


def test_auto_takes_engines_that_fit_and_goes_on_without_them(unet):
    assert plan(unet, "network").backend == "onnxruntime"
    build(unet, "fp32")
    found = plan(unet, "network")
    assert (found.backend, found.device, found.precision) == ("tensorrt-rtx", "cuda:0", "fp32")
    assert plan(unet, "network", device="cpu").backend == "onnxruntime"


def test_auto_prefers_half_precision_where_it_was_compared(both):
    build(both, "fp32")
    build(both, "fp16", passed=False)
    assert plan(both, "network").precision == "fp32"
    build(both, "fp16")
    assert plan(both, "network").precision == "fp16"
    assert plan(both, "network", precision="fp32").precision == "fp32"


def test_tensorrt_goes_before_tensorrt_rtx(unet):
    build(unet, "fp32")
    build(unet, "fp32", flavour=TENSORRT)
    assert plan(unet, "network").backend == "tensorrt"
    assert plan(unet, "network", backend="tensorrt-rtx").backend == "tensorrt-rtx"


def test_what_is_named_runs_or_says_why_not(unet, both):
    with pytest.raises(EngineError, match="There is none at all"):
        plan(unet, "network", backend="tensorrt-rtx")
    build(both, "fp16", passed=False)
    with pytest.raises(EngineError, match="never compared with FP32 on this GPU"):
        plan(both, "network", backend="tensorrt-rtx", precision="fp16")
    with pytest.raises(BackendError, match="computes in fp16 or fp32, not in 'int8'"):
        plan(unet, "network", backend="tensorrt-rtx", precision="int8")
    with pytest.raises(BackendError, match="in fp32, not in fp16"):
        plan(unet, "network", backend="tensorrt-rtx", precision="fp16")
    with pytest.raises(BackendUnavailableError, match=r"runs tensorrt-rtx on cuda only"):
        choose(backend="tensorrt-rtx", device="cpu")
    with pytest.raises(BackendUnavailableError, match=r"cuda:7 is not.*sees 1 CUDA"):
        choose(backend="tensorrt-rtx", device="cuda:7")


def test_a_missing_precision_is_refused_by_the_folders_list(unet):
    with pytest.raises(BackendError, match="in fp32, not in fp16"):
        plan(unet, "network", precision="fp16")


def test_without_a_driver_a_named_runtime_says_what_is_missing(unet, monkeypatch):
    build(unet, "fp32")
    monkeypatch.undo()
    fake_machine.without_driver(monkeypatch)
    monkeypatch.setattr(tensorrt_library, "runtime", lambda flavour: object())
    with pytest.raises(BackendUnavailableError, match=r"tensorrt-rtx is not.*libcuda-that-nob"):
        open_graph(unet, "network", backend="tensorrt-rtx")
    assert plan(unet, "network").backend == "onnxruntime"


def test_without_pycuda_a_named_runtime_says_so_and_auto_goes_on(unet, monkeypatch):
    build(unet, "fp32")

    def missing():
        raise BackendUnavailableError("pycuda", reason="not there", remedy="Install it.")

    monkeypatch.setattr(cuda_device, "import_pycuda", missing)
    with pytest.raises(BackendUnavailableError, match="pycuda is not available"):
        plan(unet, "network", backend="tensorrt-rtx")
    assert plan(unet, "network").backend == "onnxruntime"


# What runs.


def test_a_network_for_frames_runs_on_its_engine(unet, loaded, device):
    build(unet, "fp32")
    read = loaded(unet)
    frames = np.random.default_rng(0).integers(0, 256, (40, 80, 90, 3), dtype=np.uint8)
    exact = fastseg.load(unet.path, device="cpu").segment(frames)
    model = fastseg.load(unet.path)
    actual = model.segment(frames)
    assert (model.backend, model.device, model.precision) == ("tensorrt-rtx", "cuda:0", "fp32")
    assert read == ["network fp32"]
    assert actual[0].timings.device == "cuda:0"
    for a, b in zip(actual, exact, strict=True):
        np.testing.assert_array_equal(a.array(), b.array())
    model.close()
    assert device.used_bytes == 0


def test_prompts_are_answered_by_engines_alone(tmp_path, loaded):
    folder = artifacts.read(tiny_sam_folder(tmp_path / "sam"))
    build(folder, "fp32")
    read = loaded(folder)
    image = np.random.default_rng(0).integers(0, 256, (60, 64, 3), dtype=np.uint8)
    points = {"points": [[[10, 10]], [[40, 30]]], "labels": [[1], [1]]}
    exact = fastseg.load(folder.path, device="cpu").segment(image, **points)
    with fastseg.load(folder.path, backend="tensorrt-rtx") as model:
        actual = model.segment(image, **points)
    assert {name.split()[0] for name in read} == {"encoder", "image_state", "decoder", "mask_head"}
    np.testing.assert_array_equal(actual.array(), exact.array())
    np.testing.assert_array_equal(actual.scores, exact.scores)


def test_an_altered_engine_is_refused_before_the_runtime_sees_it(unet, loaded):
    build(unet, "fp32")
    read = loaded(unet)
    (path,) = (unet.path / ENGINES).glob("*.engine")
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(EngineError, match="altered, or fastseg did not write it"):
        fastseg.load(unet.path, backend="tensorrt-rtx").segment(np.zeros((64, 64), np.uint8))
    assert read == []


def test_arrays_may_stay_on_the_device(unet, loaded, device):
    build(unet, "fp32")
    loaded(unet)
    stored = unet.manifest.graphs["network"]
    backend = open_engine(unet, stored, device="cuda", memory="cuda", backend="tensorrt-rtx")
    frames = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)
    outputs = backend.run({"frames": device.array(frames)})
    expected = OrtBackend(unet.file(stored), stored.graph).run({"frames": frames})
    found = device.read(outputs["probabilities"])
    np.testing.assert_array_equal(found, expected["probabilities"])


def test_a_cached_engine_is_found_for_any_copy_of_the_folder(unet):
    stored = unet.manifest.graphs["network"]
    key = key_of(stored, TENSORRT_RTX, "1.7", targets=("sm89",), gpu=None)
    EngineCache().put(CONTENT, card_of(key, CONTENT, Comparison("not compared")))
    assert plan(unet, "network").backend == "tensorrt-rtx"
