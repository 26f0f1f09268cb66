"""Components are those of SciPy, numbered in raster order."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings

from fastseg import ops
from fastseg.errors import MaskError
from tests.helpers.mask_stacks import stacks


@given(stacks)
@settings(deadline=None, max_examples=60)
def test_components_equal_scipy(masks):
    labels, counts = ops.label_components(masks)
    for mask, found, count in zip(masks, labels, counts, strict=True):
        expected, number = scipy.ndimage.label(mask, np.ones((3, 3)))
        assert count == number
        np.testing.assert_array_equal(found, expected)


def test_pixels_that_touch_at_corners_are_one_component():
    mask = np.array([[[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]]], np.bool_)
    labels, counts = ops.label_components(mask)
    assert labels[0].tolist() == [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 3]]
    assert counts.tolist() == [3]


def test_an_array_of_another_kind_is_refused():
    with pytest.raises(MaskError, match="must be"):
        ops.label_components(np.zeros((2, 2), np.bool_))
