"""Run lengths agree with the pixels they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from fastseg import ops
from fastseg.errors import MaskError
from tests.helpers import reference
from tests.helpers.mask_stacks import blobs, stacks

SIZES = [(1, 1), (1, 40), (40, 1), (7, 512), (480, 640), (33, 65)]


def assert_runs_match(masks):
    runs = ops.rle_from_array(masks)
    assert runs.lists() == [reference.run_lengths(mask) for mask in masks]
    np.testing.assert_array_equal(ops.rle_to_array(runs), masks)
    np.testing.assert_array_equal(ops.rle_areas(runs), masks.sum((1, 2)))
    boxes = np.array([reference.box(mask) for mask in masks], np.int64).reshape(-1, 4)
    np.testing.assert_array_equal(ops.rle_boxes(runs), boxes)


@given(stacks)
@settings(deadline=None)
def test_any_masks_survive_the_round_trip(masks):
    assert_runs_match(masks)


@pytest.mark.parametrize("size", SIZES)
def test_masks_with_outlines_survive_the_round_trip(size):
    masks = np.concatenate([blobs(3, size), np.zeros((1, *size), bool), np.ones((1, *size), bool)])
    assert_runs_match(masks)


def test_arrays_in_any_memory_order_work():
    masks = blobs(3, (20, 30))
    expected = ops.rle_from_array(masks).lists()
    assert ops.rle_from_array(np.asfortranarray(masks)).lists() == expected
    assert ops.rle_from_array(masks[::-1]).lists() == expected[::-1]


def test_results_do_not_depend_on_the_number_of_threads():
    masks = blobs(7, (300, 400))
    runs = ops.rle_from_array(masks, threads=1)
    assert ops.rle_from_array(masks, threads=5).lists() == runs.lists()
    np.testing.assert_array_equal(ops.rle_to_array(runs, threads=5), masks)
    np.testing.assert_array_equal(
        ops.rle_iou(runs, runs, threads=5), ops.rle_iou(runs, runs, threads=1)
    )


def test_runs_of_no_length_are_read_as_what_they_mean():
    counts = [0, 0, 3, 0, 0, 2, 0, 0, 0, 1]
    runs = ops.Rle.from_lists([counts], (2, 3))
    mask = reference.draw(counts, (2, 3))
    np.testing.assert_array_equal(ops.rle_to_array(runs)[0], mask)
    np.testing.assert_array_equal(ops.rle_areas(runs), [mask.sum()])
    np.testing.assert_array_equal(ops.rle_boxes(runs), [reference.box(mask)])
    np.testing.assert_array_equal(reference.fill(ops.rle_polygons(runs)[0], (2, 3)), mask)
    np.testing.assert_array_equal(ops.rle_iou(runs, ops.rle_from_array(mask[np.newaxis])), [[1.0]])


@given(stacks)
@settings(deadline=None)
def test_overlaps_equal_those_of_the_pixels(masks):
    a, b = masks, masks[:, ::-1, ::-1]
    expected = np.array([[reference.iou(one, other) for other in b] for one in a])
    overlaps = ops.rle_iou(ops.rle_from_array(a), ops.rle_from_array(b))
    np.testing.assert_array_equal(overlaps, expected.reshape(len(a), len(b)))


def test_two_empty_masks_overlap_wholly():
    empty = ops.rle_from_array(np.zeros((2, 3, 4), bool))
    np.testing.assert_array_equal(ops.rle_iou(empty, empty), np.ones((2, 2)))


def test_masks_of_different_sizes_do_not_compare():
    with pytest.raises(MaskError, match=r"\(3, 4\) and \(4, 3\)"):
        ops.rle_iou(
            ops.rle_from_array(np.zeros((1, 3, 4), bool)),
            ops.rle_from_array(np.zeros((1, 4, 3), bool)),
        )


@pytest.mark.parametrize(
    "masks", [np.zeros((3, 4), bool), np.zeros((1, 3, 4), np.uint8), np.zeros((1, 0, 4), bool)]
)
def test_what_are_no_masks_is_refused(masks):
    with pytest.raises(MaskError, match="masks must"):
        ops.rle_from_array(masks)


EVERY_READER = {
    "rle_check": ops.rle_check,
    "rle_areas": ops.rle_areas,
    "rle_boxes": ops.rle_boxes,
    "rle_to_array": ops.rle_to_array,
    "rle_to_strings": ops.rle_to_strings,
    "rle_polygons": ops.rle_polygons,
    "rle_remove_small_regions": lambda runs: ops.rle_remove_small_regions(runs, 5, "holes"),
    "rle_iou": lambda runs: ops.rle_iou(runs, runs),
}


@pytest.mark.parametrize("name", EVERY_READER)
@pytest.mark.parametrize("counts", [[], [5], [3, 4], [2**32 - 1, 2**32 - 1]])
def test_runs_that_do_not_fill_their_size_are_refused_by_name(name, counts):
    runs = ops.Rle.from_lists([[6], counts], (2, 3))
    with pytest.raises(MaskError, match=rf"mask 1 sum to {sum(counts)}, not .* 2 \* 3 = 6"):
        EVERY_READER[name](runs)
