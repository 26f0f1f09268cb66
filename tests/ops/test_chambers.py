"""Chambers are cleaned as scipy and scikit-image clean them, and scored as their doc says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastseg import ops
from fastseg.errors import MaskError, PromptError
from tests.helpers import reference_chambers as reference
from tests.helpers.chamber_probabilities import echo_masks, echo_probabilities, rough, stacks

SIZES = [(1, 1), (1, 200), (200, 1), (3, 64), (65, 63), (128, 130), (256, 256)]


def drawn(rows):
    """Draw one channel of certain probabilities, a character for each pixel."""
    return np.array([[character == "#" for character in row] for row in rows], np.float32)


def clean_one(mask):
    return ops.clean_chambers(mask[np.newaxis, np.newaxis], exclusive=False)[0, 0]


@given(stacks, st.booleans(), st.sampled_from([0.0, 0.49, 0.5, 0.74]))
@example(np.ones((1, 2, 1, 1), np.float32), True, 0.5)
@settings(deadline=None, max_examples=100)
def test_any_probabilities_are_cleaned_as_the_reference_does(probabilities, exclusive, threshold):
    cleaned = ops.clean_chambers(probabilities, threshold=threshold, exclusive=exclusive)
    expected = reference.clean_chambers(probabilities, threshold, exclusive=exclusive)
    np.testing.assert_array_equal(cleaned, expected)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [0.0, 1.5, 6.0])
def test_rough_probabilities_are_cleaned_as_the_reference_does(size, width, exclusive):
    probabilities = rough(3, 4, size, width=width)
    cleaned = ops.clean_chambers(probabilities, exclusive=exclusive)
    expected = reference.clean_chambers(probabilities, exclusive=exclusive)
    np.testing.assert_array_equal(cleaned, expected)


@pytest.mark.parametrize("exclusive", [False, True])
def test_real_probabilities_are_cleaned_as_the_reference_does(echo_examples, exclusive):
    probabilities = echo_probabilities(echo_examples)
    cleaned = ops.clean_chambers(probabilities, exclusive=exclusive)
    expected = reference.clean_chambers(probabilities, exclusive=exclusive)
    np.testing.assert_array_equal(cleaned, expected)
    assert cleaned.any((2, 3)).all()


@pytest.mark.parametrize(
    ("view", "array"), [("A2C", "watershed"), ("A2C", "final"), ("A4C", "step1"), ("A4C", "final")]
)
@pytest.mark.parametrize("exclusive", [False, True])
def test_real_masks_are_cleaned_as_the_reference_does(echo_examples, view, array, exclusive):
    masks = echo_masks(echo_examples, view, array).astype(np.float32)
    cleaned = ops.clean_chambers(masks, exclusive=exclusive)
    expected = reference.clean_chambers(masks, exclusive=exclusive)
    np.testing.assert_array_equal(cleaned, expected)


def test_published_clean_masks_stay_unchanged(echo_examples):
    masks = echo_masks(echo_examples, "A4C", "step1")
    cleaned = ops.clean_chambers(masks.astype(np.float32), exclusive=True)
    np.testing.assert_array_equal(cleaned[:, 1:], masks[:, 1:])


def test_the_largest_component_stays_or_the_first_of_equal_ones():
    tied = np.zeros((12, 24), np.float32)
    tied[3, 15:18] = tied[8, 3:6] = 1
    assert np.argwhere(clean_one(tied)).tolist() == [[3, 15], [3, 16], [3, 17]]
    tied[8, 6] = 1
    assert np.argwhere(clean_one(tied)).tolist() == [[8, 3], [8, 4], [8, 5], [8, 6]]


def test_components_hang_together_over_corners():
    assert clean_one(drawn(["#...", ".#..", "..#."])).sum() >= 3


def test_holes_are_filled_unless_the_border_opens_them():
    ring = np.ones((20, 20), np.float32)
    ring[5:15, 5:15] = 0
    assert clean_one(ring).all()
    ring[:, 8:12] = 0
    assert not clean_one(ring).all()


def test_a_gap_at_the_border_is_closed_without_help_from_outside():
    mask = np.ones((9, 9), np.float32)
    mask[0, 4] = 0
    assert clean_one(mask).all()
    alone = np.zeros((9, 9), np.float32)
    alone[0, 0] = 1
    assert clean_one(alone).sum() == 1


def test_exclusive_chambers_lose_what_they_both_claim():
    probabilities = np.zeros((1, 3, 12, 12), np.float32)
    probabilities[0, 1, :, :8] = 1
    probabilities[0, 2, :, 6:] = 1
    union, first, second = ops.clean_chambers(probabilities, exclusive=True)[0]
    assert first.sum() == 12 * 6
    assert second.sum() == 12 * 4
    np.testing.assert_array_equal(union, first ^ second)
    assert not (first & second).any()


def test_a_threshold_is_not_above_itself():
    even = np.full((1, 1, 5, 5), 0.5, np.float32)
    assert not ops.clean_chambers(even, exclusive=False).any()
    assert ops.clean_chambers(even, threshold=0.49, exclusive=False).all()


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_channel_gives_an_empty_mask(value):
    empty = np.full((2, 3, 9, 70), value, np.float32)
    for exclusive in (False, True):
        assert not ops.clean_chambers(empty, exclusive=exclusive).any()


@given(stacks)
@settings(deadline=None)
def test_any_masks_are_scored_as_the_reference_does(probabilities):
    masks = ops.clean_chambers(probabilities, exclusive=True)
    scores, stability = ops.chamber_scores(probabilities, masks)
    expected, expected_stability = reference.chamber_scores(probabilities, masks)
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(stability, expected_stability)


def test_a_score_is_expected_intersection_over_expected_union():
    rng = np.random.default_rng(0)
    probabilities = rough(1, 1, (40, 40), width=4.0)
    mask = probabilities > 0.5
    draws = rng.random((4000, 1, 40, 40)) < probabilities
    intersection = (draws & mask).sum((1, 2, 3)).mean()
    union = (draws | mask).sum((1, 2, 3)).mean()
    score = ops.chamber_scores(probabilities, mask).scores[0, 0]
    assert score == pytest.approx(intersection / union, rel=1e-3)


def test_a_certain_mask_scores_one_and_an_empty_one_zero():
    probabilities = np.zeros((1, 2, 8, 9), np.float32)
    probabilities[0, 0, 2:5] = 1
    scores, stability = ops.chamber_scores(probabilities, probabilities > 0.5)
    np.testing.assert_array_equal(scores, [[1, 0]])
    np.testing.assert_array_equal(stability, [[1, np.nan]])


def test_scores_of_real_frames_equal_the_reference(echo_examples):
    probabilities = echo_probabilities(echo_examples)
    masks = ops.clean_chambers(probabilities, exclusive=True)
    scores, stability = ops.chamber_scores(probabilities, masks)
    expected, expected_stability = reference.chamber_scores(probabilities, masks)
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(stability, expected_stability)
    assert scores.min() > 0.5


def test_results_do_not_depend_on_the_number_of_threads():
    probabilities = rough(4, 5, (200, 150))
    one = ops.clean_chambers(probabilities, exclusive=True, threads=1)
    np.testing.assert_array_equal(ops.clean_chambers(probabilities, exclusive=True, threads=4), one)
    many = ops.chamber_scores(probabilities, one, threads=4)
    for a, b in zip(ops.chamber_scores(probabilities, one, threads=1), many, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), "must be"),
        (np.zeros((1, 2, 3, 4)), "float32"),
        (np.zeros((1, 2, 0, 4), np.float32), "at least one pixel"),
        (np.zeros((1, 1, 3, 4), np.float32), "at least one chamber"),
    ],
)
def test_what_is_no_stack_of_probabilities_is_refused(probabilities, message):
    with pytest.raises(MaskError, match=message):
        ops.clean_chambers(probabilities, exclusive=True)


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(PromptError, match="threshold"):
        ops.clean_chambers(np.zeros((1, 2, 3, 4), np.float32), threshold=np.nan, exclusive=True)


def test_masks_of_another_size_are_refused():
    with pytest.raises(MaskError, match="masks must be"):
        ops.chamber_scores(np.zeros((1, 2, 3, 4), np.float32), np.zeros((1, 2, 4, 3), bool))
