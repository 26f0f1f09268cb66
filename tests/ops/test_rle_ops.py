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
    runs = ops.runs_from_array(masks)
    assert runs.lists() == [reference.run_lengths(mask) for mask in masks]
    np.testing.assert_array_equal(ops.runs_to_array(runs), masks)
    np.testing.assert_array_equal(ops.runs_areas(runs), masks.sum((1, 2)))
    boxes = np.array([reference.box(mask) for mask in masks], np.int64).reshape(-1, 4)
    np.testing.assert_array_equal(ops.runs_boxes(runs), boxes)


@given(stacks)
@settings(deadline=None)
def test_any_masks_survive_the_round_trip_with_their_areas_and_boxes(masks):
    assert_runs_match(masks)


@pytest.mark.parametrize("size", SIZES)
def test_masks_with_outlines_survive_the_round_trip(size):
    masks = np.concatenate([blobs(3, size), np.zeros((1, *size), bool), np.ones((1, *size), bool)])
    assert_runs_match(masks)


def test_arrays_in_any_memory_order_work():
    masks = blobs(3, (20, 30))
    expected = ops.runs_from_array(masks).lists()
    assert ops.runs_from_array(np.asfortranarray(masks)).lists() == expected
    assert ops.runs_from_array(masks[::-1]).lists() == expected[::-1]


def test_results_do_not_depend_on_the_number_of_threads():
    masks = blobs(7, (300, 400))
    runs = ops.runs_from_array(masks, threads=1)
    assert ops.runs_from_array(masks, threads=5).lists() == runs.lists()
    np.testing.assert_array_equal(ops.runs_to_array(runs, threads=5), masks)
    np.testing.assert_array_equal(
        ops.runs_iou(runs, runs, threads=5), ops.runs_iou(runs, runs, threads=1)
    )


def test_runs_of_no_length_are_read_as_what_they_mean():
    counts = [0, 0, 3, 0, 0, 2, 0, 0, 0, 1]
    runs = ops.Runs.from_lists([counts], (2, 3))
    mask = reference.draw(counts, (2, 3))
    np.testing.assert_array_equal(ops.runs_to_array(runs)[0], mask)
    np.testing.assert_array_equal(ops.runs_areas(runs), [mask.sum()])
    np.testing.assert_array_equal(ops.runs_boxes(runs), [reference.box(mask)])
    np.testing.assert_array_equal(reference.fill(ops.runs_polygons(runs)[0], (2, 3)), mask)
    np.testing.assert_array_equal(
        ops.runs_iou(runs, ops.runs_from_array(mask[np.newaxis])), [[1.0]]
    )


@given(stacks)
@settings(deadline=None)
def test_overlaps_equal_those_of_the_pixels(masks):
    a, b = masks, masks[:, ::-1, ::-1]
    expected = np.array([[reference.iou(one, other) for other in b] for one in a])
    overlaps = ops.runs_iou(ops.runs_from_array(a), ops.runs_from_array(b))
    np.testing.assert_array_equal(overlaps, expected.reshape(len(a), len(b)))


def test_two_empty_masks_overlap_wholly():
    empty = ops.runs_from_array(np.zeros((2, 3, 4), bool))
    np.testing.assert_array_equal(ops.runs_iou(empty, empty), np.ones((2, 2)))


def test_masks_of_different_sizes_do_not_compare():
    with pytest.raises(MaskError, match=r"\(3, 4\) and \(4, 3\)"):
        ops.runs_iou(
            ops.runs_from_array(np.zeros((1, 3, 4), bool)),
            ops.runs_from_array(np.zeros((1, 4, 3), bool)),
        )


@pytest.mark.parametrize(
    "masks", [np.zeros((3, 4), bool), np.zeros((1, 3, 4), np.uint8), np.zeros((1, 0, 4), bool)]
)
def test_what_are_no_masks_is_refused(masks):
    with pytest.raises(MaskError, match="masks must"):
        ops.runs_from_array(masks)


EVERY_READER = {
    "runs_check": ops.runs_check,
    "runs_areas": ops.runs_areas,
    "runs_boxes": ops.runs_boxes,
    "runs_to_array": ops.runs_to_array,
    "runs_to_strings": ops.runs_to_strings,
    "runs_polygons": ops.runs_polygons,
    "runs_remove_small_regions": lambda runs: ops.runs_remove_small_regions(runs, 5, "holes"),
    "runs_iou": lambda runs: ops.runs_iou(runs, runs),
}


@pytest.mark.parametrize("name", EVERY_READER)
@pytest.mark.parametrize("counts", [[], [5], [3, 4], [2**32 - 1, 2**32 - 1]])
def test_runs_that_do_not_fill_their_size_are_refused_by_name(name, counts):
    runs = ops.Runs.from_lists([[6], counts], (2, 3))
    with pytest.raises(MaskError, match=rf"mask 1 sum to {sum(counts)}, not .* 2 \* 3 = 6"):
        EVERY_READER[name](runs)
