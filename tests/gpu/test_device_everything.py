"""Everything mode on a real device: the masks of the CPU but for what the graphs round."""

from __future__ import annotations

import pytest

import fastseg
from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.backends.tensorrt.library import FLAVOURS
from fastseg.building import Request
from fastseg.demo import PICTURE
from fastseg.errors import DeviceMemoryError
from fastseg.images import read_image
from fastseg.ops import rle_iou
from tests.helpers.on_gpu import build_or_skip, require_gpu

pytestmark = pytest.mark.gpu

SETTINGS = {"points_per_side": 16, "crop_n_layers": 1}


@pytest.fixture(scope="module", params=[*FLAVOURS])
def model(request, tmp_path_factory):
    """sam-nano in FP32 on each runtime that is installed."""
    require_gpu(kernels=True, flavour=request.param)
    out = tmp_path_factory.mktemp("models") / "nano"
    source = artifacts.read(registry.find("sam-nano"))
    build_or_skip(source, Request(request.param, "fp32", device="cuda", out=out))
    with fastseg.load(out, backend=request.param, device="cuda") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def expected():
    with fastseg.load("sam-nano", backend="onnxruntime", device="cpu") as cpu:
        return cpu.everything(PICTURE, **SETTINGS)


def assert_close(found, expected):
    """Another order of sums moves few pixels, and a mask over a threshold now and then."""
    assert abs(len(found) - len(expected)) <= max(1, 0.02 * len(expected))
    best = rle_iou(expected.runs, found.runs).max(axis=1)
    assert (best > 0.99).mean() > 0.97


def test_the_whole_search_stays_on_the_device(model, expected):
    assert model.gpu_mask_generator is not None
    assert_close(model.everything(PICTURE, **SETTINGS), expected)


def test_small_passes_find_the_same(model, expected):
    found = model.everything(PICTURE, max_device_memory=300 * 2**20, **SETTINGS)
    assert_close(found, expected)


def test_an_image_in_the_memory_of_torch_is_searched_where_it_is(model, expected):
    torch = pytest.importorskip("torch", reason="takes a torch tensor")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    image = torch.from_numpy(read_image(PICTURE).copy()).cuda()
    assert_close(model.everything(image, **SETTINGS), expected)


def test_too_little_memory_is_an_error_and_the_model_goes_on(model, expected):
    with pytest.raises(DeviceMemoryError, match="max_device_memory"):
        model.everything(PICTURE, max_device_memory=1000, **SETTINGS)
    assert_close(model.everything(PICTURE, **SETTINGS), expected)
