"""Everything mode on an emulated device gives the CPU's masks, bit for bit, in its order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastseg
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.cuda.arrays import device_array
from fastseg.cuda.kernels import RECORD, emulated_kernels
from fastseg.errors import DeviceMemoryError, ImageError, PromptError
from fastseg.images import read_image
from fastseg.sam.gpu import mask_generator as gpu_mask_generator
from fastseg.sam.gpu.mask_generator import GpuMaskGenerator
from tests.fakes.emulated_device import EmulatedDevice

LOOSE = {"pred_iou_thresh": -10.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
FIELDS = ("scores", "stability", "boxes", "areas", "prompt", "points", "crop_boxes")


@pytest.fixture
def device():
    return EmulatedDevice()


@pytest.fixture
def on_device(tiny_folder, device) -> Iterator[fastseg.Sam]:
    """The same model, whose arrays are on an emulated device."""
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        loaded.gpu_mask_generator = searching(loaded, device)
        yield loaded


def searching(loaded, device, **how):
    graphs = {name: loaded._graphs[name] for name in gpu_mask_generator.GRAPHS}
    preprocessing = loaded.manifest.image_preprocessing
    return GpuMaskGenerator(graphs, preprocessing, device, lambda stream: emulated_kernels(**how))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def assert_same(found, expected):
    assert found.runs.lists() == expected.runs.lists()
    for field in FIELDS:
        one, other = getattr(found, field), getattr(expected, field)
        assert one.dtype == other.dtype, field
        np.testing.assert_array_equal(one, other, err_msg=field)


@pytest.mark.parametrize(
    "settings",
    [
        {"points_per_side": 6},
        {"points_per_side": 7, **LOOSE},
        {"points_per_side": 12, **LOOSE, "box_nms_thresh": 0.3},
        {"points_per_side": 6, **LOOSE, "crop_n_layers": 1},
        {"points_per_side": 9, "crop_n_layers": 2, "crop_n_points_downscale_factor": 3},
        {"points_per_side": 6, "min_mask_region_area": 30, **LOOSE},
        {"points_per_side": 8, "stability_score_offset": 0.25, "stability_score_thresh": 0.9},
        {"points_per_side": None, "point_grids": [np.array([[0.25, 0.5], [1, 0]])], **LOOSE},
        {"points_per_side": 3, "pred_iou_thresh": 1e6},
        {"points_per_side": 1, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2, **LOOSE},
    ],
    ids=str,
)
def test_the_masks_are_those_of_the_cpu(tiny_model, on_device, image, settings):
    assert_same(on_device.everything(image, **settings), tiny_model.everything(image, **settings))


def test_threads_that_take_turns_backwards_change_nothing(tiny_model, tiny_folder, image, device):
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        loaded.gpu_mask_generator = searching(loaded, device, backwards=True)
        assert_same(loaded.everything(image, **LOOSE), tiny_model.everything(image, **LOOSE))


def test_an_embedded_model_finds_the_masks_of_the_cpu(device):
    coins = read_image("fastseg/demo_data/coins.png")
    with fastseg.load("sam-nano", backend="onnxruntime") as loaded:
        expected = loaded.everything(coins, points_per_side=4)
        loaded.gpu_mask_generator = searching(loaded, device)
        found = loaded.everything(coins, points_per_side=4)
    assert len(expected) > 5
    # The runtime may round otherwise where it runs more prompts at a time, and few pixels with it.
    assert len(found) == len(expected)
    differing = (found.array() != expected.array()).sum()
    assert differing <= 1e-5 * found.array().size
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def small_passes(tiny_model, passes):
    """A limit of memory with which a grid of 6 x 6 goes in about so many passes."""
    graphs = [tiny_model._graphs[name].graph for name in ("decoder", "mask_head")]
    for limit in range(2**17, 2**24, 2**14):
        try:
            plan = gpu_mask_generator.plan_memory(*graphs, prompts=36, most_bytes=limit)
        except DeviceMemoryError:
            continue
        if len(plan.passes(36)) <= passes:
            return limit, len(plan.passes(36))
    raise AssertionError


@pytest.mark.parametrize("passes", [36, 5, 2, 1])
def test_the_number_of_passes_changes_nothing(tiny_model, on_device, image, passes):
    limit, made = small_passes(tiny_model, passes)
    assert made <= passes
    found = on_device.everything(image, points_per_side=6, max_device_memory=limit, **LOOSE)
    assert_same(found, tiny_model.everything(image, points_per_side=6, **LOOSE))


def test_the_image_goes_up_once_and_run_lengths_come_down_once(on_device, device, image):
    masks = on_device.everything(image, points_per_side=6, **LOOSE)
    grid, fills = 36 * 16, 32
    assert sorted(device.uploaded) == sorted([image.nbytes, grid, fills])
    count, known = 4, fills + 36 * 3 * RECORD.itemsize
    assert sorted(device.downloaded) == sorted([count, known, masks.runs.counts.nbytes])


def test_all_memory_is_given_back(on_device, device, image):
    on_device.everything(image, points_per_side=6, crop_n_layers=1, **LOOSE)
    assert device.used_bytes == 0
    assert device.most_bytes > 0


def test_memory_that_runs_out_halves_the_pass_once_and_says_so(tiny_model, tiny_folder, image):
    expected = tiny_model.everything(image, points_per_side=6, **LOOSE)
    plenty = EmulatedDevice()
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        loaded.gpu_mask_generator = searching(loaded, plenty)
        loaded.everything(image, points_per_side=6, **LOOSE)
        scarce = EmulatedDevice(memory_bytes=plenty.most_bytes - 1)
        loaded.gpu_mask_generator = searching(loaded, scarce)
        with pytest.warns(RuntimeWarning, match="36 prompts at a time .* From now on it is 18"):
            found = loaded.everything(image, points_per_side=6, **LOOSE)
        assert_same(found, expected)
        # What was learnt holds for the next image.
        assert_same(loaded.everything(image, points_per_side=6, **LOOSE), expected)


@pytest.mark.filterwarnings("ignore:.*too little memory:RuntimeWarning")
def test_lacking_memory_is_an_error_and_the_model_goes_on(tiny_model, tiny_folder, image):
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        device = EmulatedDevice(memory_bytes=600_000)
        loaded.gpu_mask_generator = searching(loaded, device)
        with pytest.raises(DeviceMemoryError, match=r"no .* bytes left"):
            loaded.everything(image, points_per_side=6, **LOOSE)
        device.memory_bytes = 2**40
        found = loaded.everything(image, points_per_side=6, **LOOSE)
    assert_same(found, tiny_model.everything(image, points_per_side=6, **LOOSE))


def test_more_run_lengths_than_expected_are_found_room_for(
    tiny_model, on_device, image, monkeypatch
):
    on_device.gpu_mask_generator._runs_per_mask = 2
    expected = tiny_model.everything(image, points_per_side=6, **LOOSE)
    assert_same(on_device.everything(image, points_per_side=6, **LOOSE), expected)
    learnt = on_device.gpu_mask_generator._runs_per_mask
    assert learnt > 2
    assert_same(on_device.everything(image, points_per_side=6, **LOOSE), expected)
    assert on_device.gpu_mask_generator._runs_per_mask == learnt


def test_an_image_that_is_on_the_device_stays_there(tiny_model, on_device, device, image):
    found = on_device.everything(device_array(image, "image"), points_per_side=6, **LOOSE)
    assert_same(found, tiny_model.everything(image, points_per_side=6, **LOOSE))
    assert image.nbytes not in device.uploaded


def test_an_image_on_the_device_must_be_ready_to_use(on_device, image):
    with pytest.raises(ImageError, match="bgr"):
        on_device.everything(device_array(image, "image"), channels="bgr")
    with pytest.raises(fastseg.FastsegError, match="uint8"):
        on_device.everything(device_array(image.astype(np.float32), "image"))


def test_an_image_on_the_device_is_held_to_the_same_size(on_device, image, monkeypatch):
    monkeypatch.setattr(on_device, "max_pixels", image.shape[0] * image.shape[1] - 1)
    with pytest.raises(ImageError, match=r"more than max_pixels"):
        on_device.everything(device_array(image, "image"))
    with pytest.raises(ImageError, match="not empty"):
        on_device.everything(device_array(image[:0], "image"))


def test_concurrent_calls_take_turns(tiny_model, on_device, image):
    rolled = [np.roll(image, 10 * i, axis=1) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: on_device.everything(one, points_per_side=5), rolled))
    for masks, one in zip(found, rolled, strict=True):
        assert_same(masks, tiny_model.everything(one, points_per_side=5))


def test_timings_name_what_ran(on_device, image):
    timings = on_device.everything(image, points_per_side=6, **LOOSE).timings
    assert min(timings.preprocess, timings.encode, timings.decode, timings.postprocess) > 0
    assert timings.backend == "onnxruntime"


def test_a_model_in_the_hosts_memory_searches_there(tiny_model):
    assert tiny_model.gpu_mask_generator is None


class Twin:
    """A backend that says that its arrays are on a device, over one of the host's."""

    memory, name = "cuda", "fake:cuda:0"

    def __init__(self, backend):
        self._backend, self.graph = backend, backend.graph
        self.closed = False

    def run(self, inputs):
        return self._backend.run({name: np.asarray(array) for name, array in inputs.items()})

    def close(self):
        self.closed = True


def test_masks_are_generated_where_graphs_leave_their_arrays(
    tiny_model, tiny_folder, image, device, monkeypatch
):
    """From the choice to the masks, with stand-ins for the runtime, the device and its kernels."""
    made = []

    def on_device(backend):
        made.append(Twin(backend))
        return made[-1]

    monkeypatch.setattr(OrtBackend, "on_device", on_device, raising=False)
    monkeypatch.setattr(gpu_mask_generator.device_ops, "cuda_module", lambda: None)
    monkeypatch.setattr(
        gpu_mask_generator.device_ops, "cuda_kernels", lambda *_: emulated_kernels()
    )
    monkeypatch.setattr(gpu_mask_generator.cuda_device, "open_device", lambda number: device)
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        monkeypatch.setattr(loaded._graphs["encoder"], "name", "fake:cuda:0")
        found = loaded.everything(image, points_per_side=6, **LOOSE)
        assert [twin.graph.name for twin in made] == list(gpu_mask_generator.GRAPHS)
    assert all(twin.closed for twin in made)
    assert_same(found, tiny_model.everything(image, points_per_side=6, **LOOSE))


def test_without_the_cuda_kernels_the_host_goes_on(tiny_model, tiny_folder, image, monkeypatch):
    monkeypatch.setattr(OrtBackend, "on_device", lambda self: None, raising=False)
    monkeypatch.setitem(sys.modules, "fastseg._cuda", None)
    with fastseg.load(tiny_folder, backend="onnxruntime") as loaded:
        assert loaded.gpu_mask_generator is None
        assert len(loaded.everything(image, points_per_side=6, **LOOSE)) > 0


def test_a_limit_that_is_none_is_refused(tiny_model, image):
    with pytest.raises(PromptError, match="max_device_memory"):
        tiny_model.everything(image, max_device_memory=0)
