"""What is too dear to make twice, and what lies beside the checkout or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fastseg

SMALL_SIDE = 64


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is slow unless ``-m`` names it."""
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run it by -m slow"))


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory) -> Iterator[None]:
    """A cache folder of our own: what the user has measured or compiled is not ours to follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def echo_examples() -> Path:
    """Real echocardiograms, licensed for tests only, so they are not part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "echo-examples"
    if not folder.is_dir():
        pytest.skip("needs the echo example frames in ../shared/data/echo-examples")
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
def vit_b_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of SAM ViT-B as published, but for its random weights."""
    torch = pytest.importorskip("torch", reason="exports need torch")
    from tests.helpers.random_weights import scattered
    from tests.helpers.standins import segment_anything

    with torch.random.fork_rng():
        torch.manual_seed(0)
        sam = scattered(segment_anything().sam_model_registry["vit_b"]())
    path = tmp_path_factory.mktemp("checkpoints") / "vit_b.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def vit_b_folder(vit_b_checkpoint, tmp_path_factory) -> Path:
    """``vit_b_checkpoint`` as a model folder."""
    from fastseg.export.sam import export_sam

    folder = tmp_path_factory.mktemp("models") / "vit-b"
    export_sam(vit_b_checkpoint, folder, licence="none")
    return folder


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> Path:
    """A promptable model folder whose graphs run in no time."""
    from fastseg.testing import tiny_sam_folder

    return tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tiny_model(tiny_folder) -> Iterator[fastseg.Sam]:
    """``tiny_folder`` in ONNX Runtime."""
    with fastseg.load(tiny_folder, backend="onnxruntime") as model:
        yield model


@pytest.fixture(scope="session")
def small_modules():
    """SAM's prompt encoder and decoder behind one convolution, for pictures of 64 x 64 pixels."""
    torch = pytest.importorskip("torch", reason="exports need torch")
    from fastseg.export.networks.mask_decoder import MaskDecoder
    from fastseg.export.networks.prompt_encoder import PromptEncoder
    from fastseg.export.networks.sam import SamModules
    from tests.helpers.random_weights import scattered

    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = torch.nn.Sequential(
            torch.nn.Conv2d(3, 256, 16, stride=16), torch.nn.BatchNorm2d(256)
        )
        modules = SamModules(encoder, PromptEncoder(SMALL_SIDE // 16, SMALL_SIDE), MaskDecoder())
    for module in modules.by_prefix().values():
        scattered(module)
    return modules


@pytest.fixture(scope="session")
def small_folder(small_modules, tmp_path_factory) -> Path:
    """``small_modules`` as a model folder whose weights are stored in half the bytes."""
    from fastseg.export.sam import Card, write_sam_folder

    folder = tmp_path_factory.mktemp("models") / "small"
    write_sam_folder(small_modules, folder, Card("small"), store="float16")
    return folder
