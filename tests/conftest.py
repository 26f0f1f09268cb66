"""Fixtures that many tests share: what is expensive to make, and what may be missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fastseg
from fastseg.backends.telemetry import telemetry_off
from fastseg.environment import usable_cores
from tests.helpers import scheduling

if TYPE_CHECKING:
    from tests.helpers.exported_sam import ExportedSam


def pytest_configure(config: pytest.Config) -> None:
    """Keep off the telemetry of runtimes that tests import themselves.

    A worker among several gets its share of the cores for torch, which is not imported yet: threads
    of all cores would wait for one another in a loop.
    """
    stack = ExitStack()
    stack.enter_context(telemetry_off())
    config.add_cleanup(stack.close)
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        share = max(1, usable_cores() // worker["workercount"])
        os.environ.setdefault("OMP_NUM_THREADS", str(share))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Choose the number of workers of ``-n auto``."""
    return scheduling.worker_count(usable_cores(), scheduling.machine_memory())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let workers take whole files, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class FileScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scheduling.group(nodeid)

    config.option.loadscopereorder = False
    return FileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests of a worker; skip slow tests unless ``-m`` names them."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: scheduling.rank(item.nodeid))
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run it by -m slow"))


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory) -> Iterator[None]:
    """Give the session its own cache folder, without what the user has measured or compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def use_cores(monkeypatch) -> Callable[[int], None]:
    """Give the process a number of cores, as far as Python tells."""

    def use(count: int) -> None:
        cores = set(range(count))
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores, raising=False)

    return use


@pytest.fixture(scope="session")
def echo_examples() -> Path:
    """Folder of real echocardiograms, licensed for tests only and so not part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "echo-examples"
    if not folder.is_dir():
        pytest.skip("needs the echo example frames in ../shared/data/echo-examples")
    return folder


@pytest.fixture(scope="session")
def medical_files() -> Path:
    """Folder of real medical files, licensed for tests only and so not part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "medical"
    if not folder.is_dir():
        pytest.skip("needs the medical files in ../shared/data/medical")
    return folder


@pytest.fixture(scope="session")
def needs_rtx() -> None:
    """Skip where the packages of the extra tensorrt-rtx are not installed."""
    from fastseg.backends.tensorrt import library as tensorrt_library
    from fastseg.errors import BackendUnavailableError

    try:
        tensorrt_library.runtime(tensorrt_library.TENSORRT_RTX)
    except BackendUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def vit_small(tmp_path_factory) -> ExportedSam:
    """SAM with a small vision transformer, which has every kind of block of the published ones."""
    return exported_sam("vit_small", tmp_path_factory)


@pytest.fixture(scope="session")
def vit_b(tmp_path_factory) -> ExportedSam:
    """SAM ViT-B with random weights. Its export takes minutes: for slow tests only."""
    return exported_sam("vit_b", tmp_path_factory)


def exported_sam(kind: str, places: pytest.TempPathFactory) -> ExportedSam:
    pytest.importorskip("torch", reason="exports need torch")
    from tests.helpers.exported_sam import ExportedSam

    return ExportedSam(kind, places.mktemp(kind))


@pytest.fixture(scope="session")
def sam2_small_folder(tmp_path_factory) -> Path:
    """The network of ``tests.helpers.small_sam2`` as a model folder: for slow tests only."""
    pytest.importorskip("torch", reason="exports need torch")
    from tests.helpers.small_sam2 import small_reference, small_sam2_modules, write_small_folder

    out = tmp_path_factory.mktemp("models") / "sam2"
    write_small_folder(small_sam2_modules(small_reference()), out)
    return out


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> Path:
    """Promptable model folder whose graphs run in milliseconds."""
    from fastseg.testing import tiny_sam_folder

    return tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tiny_model(tiny_folder) -> Iterator[fastseg.Sam]:
    """``tiny_folder`` in ONNX Runtime."""
    with fastseg.load(tiny_folder, backend="onnxruntime") as model:
        yield model


@pytest.fixture(scope="module")
def remembered_exports() -> Iterator[None]:
    """Trace modules that several tests of the session export only once."""
    pytest.importorskip("torch", reason="exports need torch")
    from tests.helpers.remembered_exports import remembered_exports

    with remembered_exports():
        yield


@pytest.fixture(scope="session")
def small_modules(vit_small):
    """The prompt encoder and decoder of ``vit_small`` behind one convolution."""
    from tests.helpers.random_weights import scattered

    torch = pytest.importorskip("torch", reason="exports need torch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = torch.nn.Sequential(
            torch.nn.Conv2d(3, 256, 16, stride=16), torch.nn.BatchNorm2d(256)
        )
    return replace(vit_small.modules(), image_encoder=scattered(encoder))


@pytest.fixture(scope="session")
def small_folder(small_modules, tmp_path_factory) -> Path:
    """``small_modules`` as a model folder whose weights are stored in float16."""
    from fastseg.export.sam import Card, write_sam_folder
    from tests.helpers.remembered_exports import remembered_exports

    folder = tmp_path_factory.mktemp("models") / "small"
    with remembered_exports():
        write_sam_folder(small_modules, folder, Card("small"), store="float16")
    return folder


@pytest.fixture(scope="session")
def small_fp16_folder(small_folder, tmp_path_factory) -> Path:
    """``small_folder`` with mixed-precision graphs beside the float32 ones."""
    from fastseg.export.fp16.convert import add_fp16
    from fastseg.validation.synthetic import scenes

    out = tmp_path_factory.mktemp("models") / "small-fp16"
    add_fp16(small_folder, out, images=scenes()[:1])
    return out
