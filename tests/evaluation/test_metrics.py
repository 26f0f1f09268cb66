"""Scores of two masks, by hand and against an independent implementation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fastseg.errors import MaskError
from fastseg.evaluation.metrics import dice, iou, points_needed, surface_distances
from tests.helpers.mask_stacks import blobs


def square(size, x0, y0, x1, y1):
    mask = np.zeros(size, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def test_iou_and_dice_of_two_squares_are_those_by_hand():
    a, b = square((6, 6), 0, 0, 4, 4), square((6, 6), 2, 0, 6, 4)
    assert iou(a, b) == 8 / 24
    assert dice(a, b) == 16 / 32
    assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)))


def test_two_empty_masks_have_no_score_and_one_empty_mask_scores_0():
    nothing, something = np.zeros((3, 3), np.bool_), square((3, 3), 0, 0, 1, 1)
    assert math.isnan(iou(nothing, nothing))
    assert math.isnan(dice(nothing, nothing))
    assert iou(nothing, something) == dice(nothing, something) == 0


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(MaskError, match="one size"):
        iou(np.zeros((3, 3), np.bool_), np.zeros((3, 4), np.bool_))


@pytest.mark.parametrize(
    ("target", "needed"), [(0.5, 1), (0.80, 2), (0.85, 4), (0.9, 4), (0.95, 20)]
)
def test_points_are_counted_to_the_first_that_reaches_the_target(target, needed):
    # It counts when an IoU was reached first, also where a later point spoils the mask.
    assert points_needed([0.5, 0.84, 0.7, 0.9], target, most=20) == needed


def test_points_that_never_suffice_count_as_all():
    assert points_needed([0.1, 0.2], 0.8) == 2


def neighbour_lengths(mask, spacing):
    """List places and lengths of outline pixel group by pixel group, in plain Python."""
    height, width = mask.shape
    down, across = spacing
    found = []
    for y, x in itertools.product(range(height + 1), range(width + 1)):
        group = [
            bool(mask[r, c]) if 0 <= r < height and 0 <= c < width else False
            for r, c in ((y - 1, x - 1), (y - 1, x), (y, x - 1), (y, x))
        ]
        inside = sum(group)
        if inside in (0, 4):
            continue
        half = 0.5 * math.sqrt(down**2 + across**2)
        if inside == 2 and group[0] == group[1]:
            length = across
        elif inside == 2 and group[0] == group[2]:
            length = down
        else:
            length = 2 * half if inside == 2 else half
        found.append((y * down, x * across, length))
    return np.array(found).reshape(-1, 3)


def independent(found, truth, spacing, tolerance):
    """Return surface Dice and HD95 from all pairs of places."""
    a, b = neighbour_lengths(found, spacing), neighbour_lengths(truth, spacing)
    pairs = np.sqrt(((a[:, None, :2] - b[None, :, :2]) ** 2).sum(axis=2))
    near = a[pairs.min(axis=1) <= tolerance, 2].sum() + b[pairs.min(axis=0) <= tolerance, 2].sum()
    sides = []
    for places, nearest in ((a, pairs.min(axis=1)), (b, pairs.min(axis=0))):
        order = np.argsort(nearest)
        share = np.cumsum(places[order, 2]) / places[:, 2].sum()
        sides.append(nearest[order][np.searchsorted(share, 0.95)])
    return near / (a[:, 2].sum() + b[:, 2].sum()), max(sides)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (0.7, 1.3)])
@pytest.mark.parametrize("tolerance", [1.0, 3.0])
def test_surface_scores_equal_an_independent_implementation(spacing, tolerance):
    masks = blobs(4, (40, 50))
    for found, truth in itertools.pairwise(masks):
        distances = surface_distances(found, truth, spacing=spacing)
        expected_dice, expected_hd = independent(found, truth, spacing, tolerance)
        assert distances.dice(tolerance) == pytest.approx(expected_dice, abs=1e-9)
        assert distances.hausdorff(95) == pytest.approx(expected_hd, abs=1e-9)


def test_outlines_of_shifted_squares_are_those_by_hand():
    a, b = square((20, 20), 2, 2, 12, 12), square((20, 20), 5, 2, 15, 12)
    distances = surface_distances(a, b)
    # Each outline: 4 corners of sqrt(2)/2 and 4 sides of 9 pieces of length 1.
    assert distances.found_lengths.sum() == pytest.approx(36 + 2 * math.sqrt(2))
    assert distances.hausdorff(100) == 3
    assert distances.dice(3) == 1
    # Common to both: in the upper and in the lower side 7 pieces and a corner of each outline.
    common = 2 * 2 * (7 + math.sqrt(2) / 2)
    assert distances.dice(0) == pytest.approx(common / (72 + 4 * math.sqrt(2)))
    assert surface_distances(a, a).hausdorff() == 0


def test_distances_count_in_mm_where_the_spacing_is_given():
    a, b = square((20, 20), 2, 2, 12, 12), square((20, 20), 5, 2, 15, 12)
    assert surface_distances(a, b, spacing=(1.0, 0.4)).hausdorff(100) == pytest.approx(1.2)


def test_an_empty_mask_is_infinitely_far_and_two_have_no_distance():
    nothing, something = np.zeros((9, 9), np.bool_), square((9, 9), 2, 2, 5, 5)
    assert surface_distances(nothing, something).hausdorff() == math.inf
    assert surface_distances(nothing, something).dice(2) == 0
    both = surface_distances(nothing, nothing)
    assert math.isnan(both.hausdorff())
    assert math.isnan(both.dice(2))
