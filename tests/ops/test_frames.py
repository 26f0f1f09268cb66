"""Frames become inputs as OpenCV resizes them; masks come back to the frame's own pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastseg import ops
from fastseg.errors import ImageError, MaskError
from tests.helpers import reference_chambers as reference
from tests.helpers.chamber_probabilities import echo_masks
from tests.helpers.mask_stacks import blobs, stacks

edges = st.integers(-20, 20)
windows = st.tuples(edges, edges, st.integers(1, 40), st.integers(1, 40)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


def frame(height, width, channels=3, seed=0):
    """Noise with a black and a white patch, so that the least and greatest levels are 0 and 255."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    pixels[: height // 4, : width // 4] = 0
    pixels[-(height // 4) :, -(width // 4) :] = 255
    return pixels


def shows_something(window, size):
    x0, y0, x1, y1 = window
    return x0 < size[1] and y0 < size[0] and x1 > 0 and y1 > 0


def opencv(image, side):
    middle = cv2.resize(image, (400, 400), interpolation=cv2.INTER_AREA)
    return cv2.resize(middle, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)


def levels_beside_opencv(length, side):
    image = frame(length, length)
    ours = ops.frame_input(image, (0, 0, length, length), side).transpose(1, 2, 0)
    levels = np.rint(ours * np.float32(255)).astype(int)
    return np.abs(levels - opencv(image, side))


@pytest.mark.parametrize("length", [100, 256, 399, 401, 480, 600, 800, 1200, 1601])
def test_the_step_by_area_equals_opencvs_within_one_level(length):
    assert levels_beside_opencv(length, 400).max() <= 1


@pytest.mark.parametrize("side", [64, 256, 512])
def test_the_cubic_step_equals_opencvs_within_one_level(side):
    assert levels_beside_opencv(400, side).max() <= 1


@pytest.mark.parametrize("length", [100, 399, 401, 480, 600, 800, 1200, 1601])
def test_on_noise_99_percent_are_within_a_level_of_opencv(length):
    # The second step can make two levels of a difference of one.
    differences = levels_beside_opencv(length, 256)
    assert differences.max() <= 2
    assert (differences > 1).mean() < 0.01


@pytest.mark.parametrize("length", [100, 256, 399, 480, 600, 800])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_are_resized_as_opencv_does(length, channels):
    image = (frame(length, length, channels) / 255).astype(np.float32)
    ours = ops.frame_input(image, (0, 0, length, length), 250)
    expected = reference.stretch(opencv(image, 250))
    np.testing.assert_allclose(ours, expected, atol=2e-6)


@given(windows, st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.booleans())
@example((0, 0, 1, 1), 1, 1, 1, False)
@settings(deadline=None, max_examples=60)
def test_any_window_of_any_frame_equals_the_reference(window, height, width, channels, floats):
    pixels = frame(height, width, channels)
    if floats:
        pixels = pixels.astype(np.float32) * np.float32(0.37) - np.float32(20)
    for side in (16, window[2] - window[0]):
        if shows_something(window, (height, width)):
            ours = ops.frame_input(pixels, window, side)
            np.testing.assert_array_equal(ours, reference.frame_input(pixels, window, side))


@pytest.mark.parametrize("window", [(0, 0, 400, 400), (-13, 5, 387, 405), (-80, -20, 720, 780)])
def test_windows_of_real_size_equal_the_reference(window):
    pixels = frame(450, 600)
    ours = ops.frame_input(pixels, window, 256)
    np.testing.assert_array_equal(ours, reference.frame_input(pixels, window, 256))


def test_a_window_of_the_networks_size_is_taken_as_it_is():
    pixels = frame(300, 280)
    ours = ops.frame_input(pixels, (10, 20, 266, 276), 256)
    np.testing.assert_array_equal(ours, reference.stretch(pixels[20:276, 10:266]))


def test_published_frames_become_their_joint_stretch(echo_examples):
    for file in sorted(echo_examples.glob("A?C_*.npz")):
        pixels = np.load(file)["image"]
        if pixels.dtype != np.uint8:
            pixels = pixels.astype(np.float32)
        ours = ops.frame_input(pixels, (0, 0, 256, 256), 256)
        np.testing.assert_array_equal(ours, reference.stretch(pixels))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("value", [0, 7])
@pytest.mark.parametrize("length", [30, 64, 500])
def test_a_constant_window_becomes_zeros(dtype, value, length):
    constant = np.full((length, length, 3), value, dtype) / dtype(1 if dtype == np.uint8 else 3)
    ours = ops.frame_input(constant.astype(dtype), (0, 0, length, length), 64)
    assert ours.shape == (3, 64, 64)
    assert not ours.any()


def test_inputs_fill_the_range_from_zero_to_one():
    for pixels in (frame(90, 70), frame(90, 70).astype(np.float32) * np.float32(1e27)):
        ours = ops.frame_input(pixels, (-10, -3, 80, 87), 48)
        assert ours.min() == 0
        assert ours.max() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e30])
def test_numbers_that_are_no_image_are_refused(value):
    pixels = np.zeros((5, 5, 1), np.float32)
    pixels[3, 2] = value
    with pytest.raises(ImageError, match="finite"):
        ops.frame_input(pixels, (0, 0, 5, 5), 16)


@pytest.mark.parametrize(
    "pixels", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)]
)
def test_what_is_no_frame_is_refused(pixels):
    with pytest.raises(ImageError, match="a frame must be"):
        ops.frame_input(pixels, (0, 0, 5, 5), 16)


@pytest.mark.parametrize(
    "window", [(0, 0, 0, 5), (3, 0, 2, 5), (5, 0, 9, 5), (-4, 0, 0, 5), (0, 0, 1, 2**16)]
)
def test_windows_that_show_nothing_or_are_huge_are_refused(window):
    with pytest.raises(ImageError, match="window"):
        ops.frame_input(np.zeros((5, 5, 3), np.uint8), window, 16)
    with pytest.raises(ImageError, match="window"):
        ops.masks_to_frame(np.zeros((1, 4, 4), bool), window, (5, 5))


@given(stacks, windows, st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_any_masks_come_back_as_the_reference_draws_them(masks, window, height, width):
    if shows_something(window, (height, width)):
        runs = ops.masks_to_frame(masks, window, (height, width))
        expected = reference.masks_to_frame(masks, window, (height, width))
        assert runs.lists() == ops.rle_from_array(expected).lists()


@pytest.mark.parametrize(
    ("window", "size"),
    [
        ((0, 0, 800, 600), (600, 800)),
        ((-100, 0, 700, 800), (800, 600)),
        ((0, -37, 117, 80), (64, 112)),
        ((3, 5, 515, 517), (500, 500)),
    ],
)
def test_drawn_masks_come_back_as_the_reference_draws_them(window, size):
    masks = np.concatenate([blobs(2, (256, 256)), blobs(2, (256, 256), width=9.0)])
    runs = ops.masks_to_frame(masks, window, size)
    expected = reference.masks_to_frame(masks, window, size)
    np.testing.assert_array_equal(ops.rle_to_array(runs), expected)


def test_real_masks_come_back_as_opencv_enlarges_them(echo_examples):
    masks = echo_masks(echo_examples, "A2C", "final")[:, 1]
    drawn = ops.rle_to_array(ops.masks_to_frame(masks, (0, 0, 600, 600), (600, 600)))
    for mask, ours in zip(masks, drawn, strict=True):
        enlarged = cv2.resize(mask.astype(np.float32), (600, 600), interpolation=cv2.INTER_LINEAR)
        # OpenCV's weights are rounded; where they say a half exactly both answers are right.
        clear = np.abs(enlarged - 0.5) > 1e-5
        np.testing.assert_array_equal(ours[clear], (enlarged > 0.5)[clear])
        assert clear.mean() > 0.99


def test_a_window_that_is_the_frame_changes_nothing():
    masks = blobs(3, (70, 41))
    runs = ops.masks_to_frame(masks, (0, 0, 41, 70), (70, 41))
    assert runs.lists() == ops.rle_from_array(masks).lists()


def test_outside_the_window_is_background():
    drawn = ops.rle_to_array(ops.masks_to_frame(np.ones((1, 4, 4), bool), (2, 3, 7, 9), (12, 10)))
    expected = np.zeros((1, 12, 10), bool)
    expected[0, 3:9, 2:7] = True
    np.testing.assert_array_equal(drawn, expected)


def test_results_do_not_depend_on_the_number_of_threads():
    pixels, masks = frame(700, 900), blobs(6, (256, 256))
    one = ops.frame_input(pixels, (0, 0, 900, 900), 256, threads=1)
    np.testing.assert_array_equal(ops.frame_input(pixels, (0, 0, 900, 900), 256, threads=4), one)
    alone = ops.masks_to_frame(masks, (0, 0, 900, 900), (700, 900), threads=1)
    many = ops.masks_to_frame(masks, (0, 0, 900, 900), (700, 900), threads=4)
    assert many.lists() == alone.lists()


@pytest.mark.parametrize("masks", [np.zeros((4, 4), bool), np.zeros((1, 4, 4), np.uint8)])
def test_what_are_no_masks_is_refused(masks):
    with pytest.raises(MaskError, match="masks must be"):
        ops.masks_to_frame(masks, (0, 0, 4, 4), (4, 4))
