"""Small holes are filled and small islands dropped as SAM's mask generator does it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseg import ops
from fastseg.errors import PromptError
from tests.helpers import reference
from tests.helpers.mask_stacks import blobs, stacks

MODES = ["holes", "islands"]


def remove(masks, min_area, mode, **settings):
    runs, changed = ops.rle_remove_small_regions(
        ops.rle_from_array(masks), min_area, mode, **settings
    )
    return runs, changed


def largest_regions(mask, min_area, mode):
    """Count the regions that share the greatest area, when the choice between them matters."""
    import scipy.ndimage

    labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    decides = mode == "islands" and count and areas.max() < min_area
    return int((areas == areas.max()).sum()) if decides else 1


@given(stacks, st.sampled_from([0, 1, 2, 3, 5.5, 12, 400]), st.sampled_from(MODES))
@settings(deadline=None, max_examples=300)
def test_any_mask_is_cleaned_as_the_reference_does(masks, min_area, mode):
    runs, changed = remove(masks, min_area, mode)
    cleaned = ops.rle_to_array(runs)
    for mask, result, flag in zip(masks, cleaned, changed, strict=True):
        expected, expected_flag = reference.remove_small_regions(mask, min_area, mode)
        assert flag == expected_flag
        # Of equally large islands one is kept; which one is another test's affair.
        if largest_regions(mask, min_area, mode) == 1:
            np.testing.assert_array_equal(result, expected)
        else:
            assert result.sum() == expected.sum()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("min_area", [1, 30, 200, 1000, 10**6])
def test_drawn_masks_are_cleaned_as_the_reference_does(mode, min_area):
    masks = blobs(4, (150, 200))
    runs, changed = remove(masks, min_area, mode)
    expected = [reference.remove_small_regions(mask, min_area, mode) for mask in masks]
    np.testing.assert_array_equal(changed, [flag for _, flag in expected])
    assert runs.lists() == [reference.run_lengths(mask) for mask, _ in expected]


def test_a_small_background_region_at_the_border_is_a_hole():
    mask = np.ones((1, 5, 6), bool)
    mask[0, 0, :2] = False
    runs, changed = remove(mask, 3, "holes")
    assert runs.lists() == [[0, 30]]
    assert changed[0]


def test_when_all_islands_are_small_the_largest_stays():
    mask = np.zeros((1, 5, 6), bool)
    mask[0, 0, 0] = mask[0, 2, 3:6] = mask[0, 4, 0] = True
    runs, changed = remove(mask, 100, "islands")
    np.testing.assert_array_equal(np.argwhere(ops.rle_to_array(runs)[0])[:, 0], [2, 2, 2])
    assert changed[0]


def test_of_equal_islands_the_first_in_rows_of_blocks_stays():
    mask = np.zeros((1, 6, 8), bool)
    mask[0, 0, 6] = mask[0, 1, 1] = mask[0, 4, 0] = True
    runs, _ = remove(mask, 100, "islands")
    np.testing.assert_array_equal(np.argwhere(ops.rle_to_array(runs)[0]), [[1, 1]])


def test_regions_hang_together_over_corners():
    mask = np.eye(5, dtype=bool)[np.newaxis]
    _, changed = remove(mask, 5, "islands")
    assert not changed[0]
    _, changed = remove(mask, 6, "islands")
    assert changed[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [False, True])
def test_a_uniform_mask_stays(mode, value):
    mask = np.full((1, 4, 5), value)
    cleaned = ops.rle_to_array(remove(mask, 3, mode)[0])
    np.testing.assert_array_equal(cleaned, mask)


def test_results_do_not_depend_on_the_number_of_threads():
    masks = blobs(6, (200, 150))
    for mode in MODES:
        one, many = remove(masks, 50, mode, threads=1), remove(masks, 50, mode, threads=4)
        assert many[0].lists() == one[0].lists()
        np.testing.assert_array_equal(many[1], one[1])


@pytest.mark.parametrize(("min_area", "mode"), [(5, "hole"), (np.nan, "holes")])
def test_unknown_modes_and_areas_are_refused(min_area, mode):
    with pytest.raises(PromptError, match="mode"):
        remove(np.ones((1, 2, 2), bool), min_area, mode)
