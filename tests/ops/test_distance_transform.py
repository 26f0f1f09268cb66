"""Distances equal SciPy's and OpenCV's on any mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseg import ops
from fastseg.errors import MaskError
from tests.helpers.mask_stacks import blobs, stacks

SPACINGS = st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.7, 1.3), (3.0, 0.1)])


def assert_equals_opencv(distances, mask):
    expected = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    # Without Intel's primitives OpenCV counts in fixed point with 16 bits.
    tolerance = 1e-6 if cv2.ipp.useIPP() else 1e-3
    np.testing.assert_allclose(distances, expected, rtol=tolerance)


@given(stacks, SPACINGS)
@settings(deadline=None, max_examples=60)
def test_exact_distances_equal_scipy(masks, spacing):
    found = ops.distance_transform(masks, spacing=spacing)
    for mask, distances in zip(masks, found, strict=True):
        if mask.all():
            assert np.isinf(distances).all()
        else:
            expected = scipy.ndimage.distance_transform_edt(mask, sampling=spacing)
            np.testing.assert_allclose(distances, expected, rtol=1e-12)


@given(stacks)
@settings(deadline=None, max_examples=60)
def test_chamfer_distances_equal_opencv(masks):
    found = ops.distance_transform(masks, metric="chamfer")
    for mask, distances in zip(masks, found, strict=True):
        if mask.all():
            assert np.isinf(distances).all()
        else:
            assert_equals_opencv(distances, mask)


@pytest.mark.parametrize("threads", [1, 2])
def test_drawn_masks_have_the_distances_of_both(threads):
    masks = blobs(4, (150, 200))
    exact = ops.distance_transform(masks, threads=threads)
    chamfer = ops.distance_transform(masks, metric="chamfer", threads=threads)
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(exact[index], scipy.ndimage.distance_transform_edt(mask))
        assert_equals_opencv(chamfer[index], mask)


def test_a_large_disk_is_measured_by_both_as_scipy_and_opencv_do():
    rows, columns = np.ogrid[:900, :1000]
    mask = (rows - 450) ** 2 + (columns - 480) ** 2 < 430**2
    exact = ops.distance_transform(mask[None])[0]
    np.testing.assert_array_equal(exact, scipy.ndimage.distance_transform_edt(mask))
    chamfer = ops.distance_transform(mask[None], metric="chamfer")[0]
    assert_equals_opencv(chamfer, mask)


def test_distances_of_a_square_are_those_by_hand():
    mask = np.zeros((1, 5, 5), np.bool_)
    mask[0, 1:4, 1:4] = True
    assert ops.distance_transform(mask)[0, 2].tolist() == [0, 1, 2, 1, 0]
    assert ops.distance_transform(mask, spacing=(3.0, 1.0))[0, 1:4, 2].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("masks", "keywords", "message"),
    [
        (np.zeros((2, 3), np.bool_), {}, "must be"),
        (np.zeros((1, 2, 3), np.uint8), {}, "must be"),
        (np.zeros((1, 2, 3), np.bool_), {"metric": "taxicab"}, "metric"),
        (np.zeros((1, 2, 3), np.bool_), {"spacing": (0.0, 1.0)}, "positive"),
        (np.zeros((1, 2, 3), np.bool_), {"spacing": (np.nan, 1.0)}, "positive"),
        (np.zeros((1, 2, 3), np.bool_), {"metric": "chamfer", "spacing": (2.0, 1.0)}, "pixels"),
    ],
)
def test_what_cannot_be_measured_is_refused(masks, keywords, message):
    with pytest.raises(MaskError, match=message):
        ops.distance_transform(masks, **keywords)
