"""The search on a device orders every use of its memory, and gives the CPU's masks all the same.

Graphs run by ``TensorRtBackend`` and kernels on a device that does nothing before it is waited for,
raises where nothing orders two uses of the same memory, and hands out what was dropped at once.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastseg
from fastseg.backends.tensorrt.backend import TensorRtBackend
from fastseg.cuda.kernels import DeviceKernels, emulated_kernels
from fastseg.sam.gpu import mask_generator as gpu_mask_generator
from fastseg.sam.gpu.mask_generator import GpuMaskGenerator
from fastseg.sam.gpu.memory_budget import plan_memory
from tests.fakes.fake_cuda import FakeCuda
from tests.fakes.fake_engine import FakeEngine

pytest.importorskip("onnxruntime", reason="the fake engines run their graphs in it")

LOOSE = {"pred_iou_thresh": -10.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


LITTLE = 2**19
"""Memory with which a grid of 6 x 6 goes in several passes."""


class LazyKernels:
    """The emulated kernels as work of a stream.

    Every allocation that a kernel is given the address of counts as written: its scratch memory,
    inputs and outputs alike.
    """

    def __init__(self, device: FakeCuda) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        function = getattr(emulated_kernels().module, name)
        if name.endswith("_workspace"):
            return function

        def put(*given: Any) -> None:
            *arguments, stream = given
            uses = {block for one in flat(arguments) if (block := self._device.block_of(one))}
            self._device.put(stream, lambda: function(*arguments, 0), [], sorted(uses))

        return put


def flat(arguments: Any) -> Iterator[int]:
    """Yield all whole numbers at any depth, and the addresses of the native module's values."""
    for one in arguments:
        if isinstance(one, tuple | list):
            yield from flat(one)
        elif type(one).__module__ == "fastseg._core":
            yield from flat(getattr(one, name) for name in dir(one) if not name.startswith("_"))
        elif isinstance(one, int) and not isinstance(one, bool):
            yield one


def searching(loaded: fastseg.Sam, device: FakeCuda) -> GpuMaskGenerator:
    graphs = {}
    for name in gpu_mask_generator.GRAPHS:
        exact = loaded._graphs[name]
        engine = FakeEngine(exact.graph, exact.run, device=device, scratch_bytes=1000)
        graphs[name] = TensorRtBackend(
            engine, exact.graph, device, runtime="tensorrt", memory="cuda"
        )
    kernels = LazyKernels(device)
    return GpuMaskGenerator(
        graphs,
        loaded.manifest.image_preprocessing,
        device,
        lambda stream: DeviceKernels(kernels, device.name, stream),
    )


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def assert_same(found, expected) -> None:
    assert len(expected) > 0
    assert found.runs.lists() == expected.runs.lists()
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.prompt, expected.prompt)


@pytest.mark.parametrize(
    "settings",
    [
        {"points_per_side": 6, **LOOSE},
        {"points_per_side": 6, "max_device_memory": LITTLE, **LOOSE},
        {"points_per_side": 6, "crop_n_layers": 1, **LOOSE},
    ],
    ids=["one pass", "several passes", "crops"],
)
def test_the_masks_are_those_of_the_cpu(tiny_folder, tiny_model, image, settings):
    device = FakeCuda()
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        loaded.gpu_mask_generator = searching(loaded, device)
        # What the first one leaves behind is what the second one works in.
        for pixels in (image, np.ascontiguousarray(image[::-1])):
            expected = tiny_model.everything(pixels, **settings)
            assert_same(loaded.everything(pixels, **settings), expected)
    gc.collect()
    assert device.used_bytes == 0


def test_with_little_memory_there_are_several_passes(tiny_model):
    decoder, mask_head = (tiny_model._graphs[name].graph for name in ("decoder", "mask_head"))
    assert len(plan_memory(decoder, mask_head, prompts=36, most_bytes=LITTLE).passes(36)) > 2


def test_an_image_of_another_library_is_waited_for(tiny_folder, tiny_model, image):
    device = FakeCuda()
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        loaded.gpu_mask_generator = searching(loaded, device)
        found = loaded.everything(device.array(image, stream=77), points_per_side=6, **LOOSE)
    assert_same(found, tiny_model.everything(image, points_per_side=6, **LOOSE))


def test_models_on_one_device_keep_to_their_own_memory(tiny_folder, tiny_model, image):
    device = FakeCuda()
    expected = tiny_model.everything(image, points_per_side=5, **LOOSE)
    models = [fastseg.load(tiny_folder, backend="onnxruntime") for _ in range(3)]
    for loaded in models:
        loaded.gpu_mask_generator = searching(loaded, device)

    def search(loaded: fastseg.Sam):
        return [loaded.everything(image, points_per_side=5, **LOOSE) for _ in range(3)]

    with ThreadPoolExecutor(len(models)) as pool:
        for found in pool.map(search, models):
            for masks in found:
                assert_same(masks, expected)
    for loaded in models:
        loaded.close()
