"""Boxes are suppressed with torchvision's arithmetic; boxes at a crop's edge are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseg import ops
from fastseg.errors import PromptError
from fastseg.geometry import Frame
from tests.helpers import reference


def random_boxes(count, seed, extent=100):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, extent, (count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1)


@given(st.integers(0, 60), st.integers(0, 999), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
@settings(deadline=None)
def test_suppression_keeps_what_the_reference_keeps(count, seed, threshold):
    boxes = random_boxes(count, seed, extent=12)
    # Few distinct scores, so that ties are common.
    scores = np.random.default_rng(seed).integers(0, 9, count).astype(np.float32)
    kept = ops.box_nms(boxes, scores, threshold)
    np.testing.assert_array_equal(kept, reference.box_nms(boxes, scores, threshold))


def test_many_boxes_keep_what_the_reference_keeps():
    boxes = random_boxes(700, 1).astype(np.float32) * np.float32(1.3)
    scores = np.random.default_rng(2).random(700).astype(np.float32)
    kept = ops.box_nms(boxes, scores, 0.6)
    np.testing.assert_array_equal(kept, reference.box_nms(boxes, scores, 0.6))


def test_an_overlap_equal_to_the_threshold_survives():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]])
    np.testing.assert_array_equal(ops.box_nms(boxes, [0.9, 0.8], 0.5), [0, 1])
    np.testing.assert_array_equal(ops.box_nms(boxes, [0.9, 0.8], 0.49), [0])


def test_the_threshold_is_compared_in_double_precision():
    # 0.7 as a float32 is a little less than 0.7: the overlap of these boxes is exactly that float.
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 7]])
    np.testing.assert_array_equal(ops.box_nms(boxes, [0.9, 0.8], 0.7), [0, 1])
    np.testing.assert_array_equal(ops.box_nms(boxes, [0.9, 0.8], 0.6999999), [0])


def test_equal_scores_keep_their_order():
    boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 11, 11]])
    np.testing.assert_array_equal(ops.box_nms(boxes, [0.5, 0.5, 0.5], 0.5), [0, 1, 2])


def test_a_nan_never_suppresses_and_the_score_nan_comes_first():
    empty = np.zeros((3, 4))
    np.testing.assert_array_equal(ops.box_nms(empty, [0.1, np.nan, 0.3], 0.5), [1, 2, 0])
    boxes = np.array([[0, 0, 9, 9], [0, 0, np.nan, 9], [0, 0, 9, 9]])
    np.testing.assert_array_equal(ops.box_nms(boxes, [0.9, 0.8, 0.7], 0.5), [0, 1])


def test_no_boxes_keep_none():
    assert ops.box_nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


@pytest.mark.parametrize(
    ("boxes", "scores"), [(np.zeros((2, 5)), np.zeros(2)), (np.zeros((2, 4)), np.zeros(3))]
)
def test_contradicting_shapes_are_refused(boxes, scores):
    with pytest.raises(PromptError, match=r"\(n, 4\)"):
        ops.box_nms(boxes, scores, 0.5)


@given(st.integers(0, 999), st.sampled_from([0, 1, 5.5, 20]))
@settings(deadline=None)
def test_boxes_near_a_crops_edge_are_those_of_the_reference(seed, tolerance):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 101, (2, 2)), axis=0)
    x0, y0 = corners[0]
    x1, y1 = corners[1] + 1
    frame = Frame((102, 102), crop=(int(x0), int(y0), int(x1), int(y1)))
    boxes = random_boxes(50, seed)
    np.testing.assert_array_equal(
        ops.near_crop_edge(boxes, frame, tolerance),
        reference.near_crop_edge(boxes, frame, tolerance),
    )


def test_boxes_near_a_crops_edge_are_those_of_sam():
    torch = pytest.importorskip("torch", reason="compares with SAM's own")
    from tests.helpers import reference_package

    amg = reference_package.segment_anything().utils.amg
    frame = Frame((300, 400), crop=(100, 0, 300, 200))
    boxes = random_boxes(500, 3, extent=200)
    crop = list(frame.crop_box)
    expected = amg.is_box_near_crop_edge(torch.from_numpy(boxes), crop, [0, 0, 400, 300]).numpy()
    shifted = boxes + np.array([100, 0, 100, 0])
    np.testing.assert_array_equal(ops.near_crop_edge(shifted, frame), expected)


@pytest.mark.parametrize("boxes", [np.zeros((2, 3), int), np.zeros((2, 4))])
def test_boxes_that_are_no_integers_are_refused(boxes):
    with pytest.raises(PromptError, match="integers"):
        ops.near_crop_edge(boxes, Frame((10, 10)))
