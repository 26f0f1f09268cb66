"""Polygons follow the cracks between pixels exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from fastseg import ops
from tests.helpers import reference
from tests.helpers.mask_stacks import blobs, stacks


def polygons(*masks):
    return ops.rle_polygons(ops.rle_from_array(np.array(masks, bool)))


def assert_rings_describe(rings, mask):
    np.testing.assert_array_equal(reference.fill(rings, mask.shape), mask)
    # Outer rings count as positive, holes as negative.
    assert sum(reference.signed_area(ring) for ring in rings) == mask.sum()
    for ring in rings:
        steps = np.roll(ring, -1, axis=0) - ring
        assert len(np.unique(ring, axis=0)) == len(ring), "a ring touches itself"
        assert ((steps == 0).sum(1) == 1).all(), "an edge is not along an axis"
        assert (np.diff(steps[:, 0] == 0, append=steps[:1, 0] == 0) != 0).all(), "collinear corners"


@given(stacks)
@settings(deadline=None, max_examples=300)
def test_filling_the_rings_gives_any_mask_back(masks):
    for rings, mask in zip(polygons(*masks) if len(masks) else [], masks, strict=True):
        assert_rings_describe(rings, mask)


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (90, 120)])
def test_filling_the_rings_gives_drawn_masks_back(size):
    masks = blobs(4, size, width=1.0)
    for rings, mask in zip(polygons(*masks), masks, strict=True):
        assert_rings_describe(rings, mask)


def test_one_pixel_is_a_square_clockwise_on_the_screen():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    [[ring]] = polygons(mask)
    np.testing.assert_array_equal(ring, [[2, 2], [2, 1], [3, 1], [3, 2]])
    assert ring.dtype == np.int32


def test_a_hole_runs_the_other_way():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    [[outer, hole]] = polygons(mask)
    assert reference.signed_area(outer) == 9
    assert reference.signed_area(hole) == -1


def test_pixels_that_touch_at_a_corner_have_rings_of_their_own():
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        [rings] = polygons(mask)
        assert [len(ring) for ring in rings] == [4, 4]


def test_holes_that_touch_at_a_corner_have_rings_of_their_own():
    mask = np.ones((4, 4), bool)
    mask[1, 1] = mask[2, 2] = False
    [rings] = polygons(mask)
    assert sorted(reference.signed_area(ring) for ring in rings) == [-1, -1, 16]


def test_an_empty_mask_has_no_rings():
    assert polygons(np.zeros((3, 3), bool)) == [[]]


def test_results_do_not_depend_on_the_number_of_threads():
    runs = ops.rle_from_array(blobs(6, (200, 150)))
    one, many = ops.rle_polygons(runs, threads=1), ops.rle_polygons(runs, threads=4)
    for expected, rings in zip(one, many, strict=True):
        assert [ring.tolist() for ring in rings] == [ring.tolist() for ring in expected]
