"""Masks cut out of low-resolution logits equal a dense evaluation of every pixel."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseg import ops
from fastseg.errors import BackendError, ImageError, MaskError, PromptError
from fastseg.geometry import Frame
from tests.helpers import reference


def smooth_logits(count, low, seed=0, scale=4.0):
    """Random blobs: standard deviation `scale`, a few low-resolution values wide."""
    noise = np.random.default_rng(seed).standard_normal((count, low, low))
    blurred = scipy.ndimage.gaussian_filter(noise, (0, low / 24, low / 24))
    return (blurred * (scale / blurred.std())).astype(np.float32)


def assert_equals_reference(logits, frame, **settings):
    masks, areas, boxes, stability = reference.binarise(logits, frame, **settings)
    lists = [reference.run_lengths(mask) for mask in masks]
    for kernel in ops.row_threshold_kernels():
        result = ops.binarise(logits, frame, kernel=kernel, **settings)
        assert result.runs.lists() == lists, kernel
        np.testing.assert_array_equal(result.areas, areas)
        np.testing.assert_array_equal(result.boxes, boxes)
        np.testing.assert_array_equal(result.stability, stability)


FRAMES = [
    Frame((768, 1024)),
    Frame((100, 80)),
    Frame((333, 777)),
    Frame((1200, 900), crop=(100, 200, 850, 1200)),
    Frame((500, 700), crop=(0, 0, 700, 31)),
    Frame((500, 700), crop=(690, 480, 700, 500)),
    Frame((400, 300), crop=(50, 0, 123, 400)),
    Frame((1, 2000)),
    Frame((1500, 2)),
    Frame((1, 1)),
    Frame((1024, 1024)),
]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_masks_equal_the_dense_reference(frame):
    assert_equals_reference(smooth_logits(2, 256), frame)


@pytest.mark.parametrize("frame", [Frame((3000, 4000)), Frame((1, 65535)), Frame((65535, 1))])
def test_masks_of_large_images_equal_the_dense_reference(frame):
    assert_equals_reference(smooth_logits(1, 256), frame)


@given(
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.sampled_from([(16, 64), (4, 16), (1, 4), (2, 2), (13, 50)]),
    st.integers(0, 999),
    st.floats(-3, 3, width=16),
    st.sampled_from([0.0, 0.25, 1.0, 7.0]),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_any_image_crop_and_threshold_equals_the_reference(size, low_side, seed, t, offset, data):
    (height, width), (low, side) = size, low_side
    x0 = data.draw(st.integers(0, width - 1))
    y0 = data.draw(st.integers(0, height - 1))
    x1 = data.draw(st.integers(x0 + 1, width))
    y1 = data.draw(st.integers(y0 + 1, height))
    # Quarters make values that equal the thresholds common.
    noise = np.random.default_rng(seed).normal(0, 3, (3, low, low))
    logits = (np.round(noise * 4) / 4).astype(np.float32)
    frame = Frame(size, side=side, crop=(x0, y0, x1, y1))
    assert_equals_reference(logits, frame, threshold=t, stability_offset=offset)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.0000001, 0.99999994])
def test_flat_logits_at_a_threshold_equal_the_reference(value):
    assert_equals_reference(np.full((1, 16, 16), value, np.float32), Frame((37, 50), side=64))


def test_logits_next_to_a_threshold_equal_the_reference():
    rng = np.random.default_rng(1)
    for threshold in (0.0, 1.0, 5.3):
        steps = rng.integers(-40, 41, (2, 64, 64)) * np.float32(2.0**-25)
        logits = (np.float32(threshold) * (1 + steps) + 1e-44 * steps).astype(np.float32)
        assert_equals_reference(
            logits, Frame((190, 256), side=256), threshold=threshold, stability_offset=1e-7
        )


def test_all_above_is_a_full_mask_and_all_below_an_empty_one():
    logits = np.stack([np.full((16, 16), 5.0), np.full((16, 16), -5.0)]).astype(np.float32)
    result = ops.binarise(logits, Frame((30, 40), side=64))
    assert result.runs.lists() == [[0, 1200], [1200]]
    np.testing.assert_array_equal(result.areas, [1200, 0])
    np.testing.assert_array_equal(result.boxes, [[0, 0, 39, 29], [0, 0, 0, 0]])
    np.testing.assert_array_equal(result.stability, [1.0, np.nan])


def test_a_kernel_that_the_processor_lacks_is_refused():
    with pytest.raises(BackendError, match="no row threshold kernel 'abacus' on this processor"):
        ops.binarise(smooth_logits(1, 16), Frame((30, 40), side=64), kernel="abacus")


def test_no_masks_are_fine():
    result = ops.binarise(np.zeros((0, 16, 16), np.float32), Frame((30, 40), side=64))
    assert len(result.runs) == 0
    assert result.boxes.shape == (0, 4)


def test_a_nan_is_background_and_infinities_are_extremes():
    logits = smooth_logits(3, 16)
    logits[0, 4:9, 3:7] = np.nan
    logits[1, 2, 2] = np.inf
    logits[1, 10, :] = -np.inf
    logits[2] = np.nan
    assert_equals_reference(logits, Frame((61, 83), side=64))
    assert ops.binarise(logits, Frame((61, 83), side=64)).areas[2] == 0


def test_results_do_not_depend_on_the_number_of_threads():
    logits, frame = smooth_logits(9, 256), Frame((600, 800))
    one = ops.binarise(logits, frame, threads=1)
    for threads in (2, 5, 64):
        many = ops.binarise(logits, frame, threads=threads)
        for name, expected in zip(one._fields[1:], one[1:], strict=True):
            np.testing.assert_array_equal(getattr(many, name), expected)
        np.testing.assert_array_equal(many.runs.counts, one.runs.counts)
        np.testing.assert_array_equal(many.runs.offsets, one.runs.offsets)


def test_planes_may_lie_apart_and_any_layout_works():
    logits, frame = smooth_logits(8, 16), Frame((50, 40), side=64)
    expected = ops.binarise(np.ascontiguousarray(logits[::2]), frame).runs.lists()
    assert ops.binarise(logits[::2], frame).runs.lists() == expected
    assert ops.binarise(np.asfortranarray(logits[::2]), frame).runs.lists() == expected
    assert ops.binarise(logits[::-1][1::2], frame).runs.lists() == expected[::-1]


def test_only_chosen_planes_are_read_and_in_their_order():
    logits, frame = smooth_logits(8, 16), Frame((50, 40), side=64)
    wanted = ops.binarise(logits[[6, 1, 1]], frame)
    logits[[0, 2, 3, 4, 5, 7]] = np.nan
    actual = ops.binarise(logits, frame, chosen=np.array([6, 1, 1]))
    assert actual.runs.lists() == wanted.runs.lists()
    np.testing.assert_array_equal(actual.stability, wanted.stability)
    assert len(ops.binarise(logits, frame, chosen=np.array([], np.intp)).areas) == 0


@pytest.mark.parametrize("chosen", [[8], [-1], [[0]], [0.5]])
def test_planes_that_are_not_there_cannot_be_chosen(chosen):
    with pytest.raises(MaskError, match="chosen must"):
        ops.binarise(smooth_logits(8, 16), Frame((50, 40), side=64), chosen=np.array(chosen))


def test_masks_agree_with_two_interpolations_of_torch():
    torch = pytest.importorskip("torch", reason="compares with torch's interpolation")

    def enlarge(values, size):
        return torch.nn.functional.interpolate(
            values, size, mode="bilinear", align_corners=False, antialias=False
        )

    logits = smooth_logits(3, 256)
    for frame in (Frame((768, 1024)), Frame((1333, 1000)), Frame((200, 150))):
        height, width = frame.resized
        square = enlarge(torch.from_numpy(logits)[None], (frame.side, frame.side))
        full = enlarge(square[..., :height, :width], frame.size)[0].numpy()
        differing = ops.rle_to_array(ops.binarise(logits, frame).runs) != (full > 0)
        # Torch rounds coordinates to float32; pixels that this moves over the threshold lie
        # within its rounding of it.
        assert differing.mean() <= 1e-5
        assert (np.abs(full[differing]) <= 1e-3).all()


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros((16, 16), np.float32),
        np.zeros((1, 16, 16), np.float64),
        np.zeros((1, 0, 16), np.float32),
        np.zeros((1, 65, 65), np.float32),
    ],
)
def test_what_are_no_logits_is_refused_by_its_shape(logits):
    with pytest.raises(MaskError, match="logits"):
        ops.binarise(logits, Frame((30, 40), side=64))


@pytest.mark.parametrize(
    ("threshold", "offset"), [(np.nan, 1.0), (np.inf, 1.0), (0.0, -1.0), (0.0, np.nan), (1e31, 1)]
)
def test_unusable_thresholds_are_refused(threshold, offset):
    with pytest.raises(PromptError, match="stability_offset"):
        ops.binarise(
            np.zeros((1, 16, 16), np.float32),
            Frame((30, 40), side=64),
            threshold=threshold,
            stability_offset=offset,
        )


def test_a_crop_outside_the_image_is_refused():
    with pytest.raises(ImageError, match="crop"):
        ops.binarise(np.zeros((1, 16, 16), np.float32), Frame((30, 40), 64, (0, 0, 41, 30)))


def test_kernels_work_in_forked_children_and_many_threads():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    logits, frame = smooth_logits(4, 256), Frame((600, 800))
    expected = ops.binarise(logits, frame).runs.lists()
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: ops.binarise(logits, frame, threads=2), range(8)):
            assert result.runs.lists() == expected
    with multiprocessing.get_context("fork").Pool(1) as children:
        assert children.apply(ops.binarise, (logits, frame)).runs.lists() == expected
