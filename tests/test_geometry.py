"""Coordinates go into the square and come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseg.geometry import Frame
from tests.helpers.reference_package import segment_anything

SIZES = [(1200, 1800), (512, 512), (303, 384), (1, 65535), (1, 1), (4000, 3000), (1023, 1024)]


@pytest.mark.parametrize("size", SIZES)
def test_the_resized_image_has_sams_size(size):
    transforms = segment_anything().utils.transforms
    expected = transforms.ResizeLongestSide.get_preprocess_shape(*size, 1024)
    assert Frame(size).resized == tuple(max(1, side) for side in expected)


@pytest.mark.parametrize("size", [size for size in SIZES if min(size) > 1])
def test_points_are_mapped_as_sam_maps_them(size):
    transform = segment_anything().utils.transforms.ResizeLongestSide(1024)
    points = np.random.default_rng(0).uniform(0, min(size), (50, 2))
    expected = transform.apply_coords(points, size).astype(np.float32)
    np.testing.assert_array_equal(Frame(size).to_model(points), expected)


def test_a_crop_is_an_image_of_its_own():
    whole, crop = Frame((60, 80), side=64), Frame((100, 200), side=64, crop=(20, 10, 100, 70))
    assert crop.size == whole.size
    np.testing.assert_array_equal(crop.to_model([[25, 15]]), whole.to_model([[5, 5]]))


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    point=st.tuples(st.floats(0, 5000), st.floats(0, 5000)),
)
def test_there_and_back_is_the_same_point(height, width, point):
    frame = Frame((height, width))
    back = frame.to_image(frame.to_model([point]))
    # float32 holds 24 bits: relative to the largest coordinate, scaled back by the image.
    np.testing.assert_allclose(back[0], point, atol=5000 * 2**-22)
