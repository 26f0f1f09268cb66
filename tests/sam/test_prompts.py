"""Prompts are checked against the image and laid out as the network was trained."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.errors import FastsegError, PromptError
from fastseg.geometry import Frame
from fastseg.sam.prompts import PromptRequest, Prompts, single_points

FRAME = Frame((480, 640), side=64)
SIDE = 16


def check(**request: object) -> Prompts:
    return PromptRequest(**request).check(FRAME, mask_side=SIDE)  # type: ignore[arg-type]


def test_a_point_is_followed_by_one_padding_point():
    prompts = check(points=[10, 20])
    np.testing.assert_array_equal(prompts.points, [[10, 20], [0, 0]])
    np.testing.assert_array_equal(prompts.labels, [1, -1])


def test_two_axes_are_one_prompt_and_three_are_many():
    assert len(check(points=[[1, 2], [3, 4]])) == 1
    assert len(check(points=[[[1, 2]], [[3, 4]]])) == 2


def test_a_box_is_two_points_without_padding():
    prompts = check(boxes=[10, 20, 30, 40])
    np.testing.assert_array_equal(prompts.points, [[10, 20], [30, 40]])
    np.testing.assert_array_equal(prompts.labels, [2, 3])


def test_points_come_before_the_corners_of_their_box():
    prompts = check(points=[[[1, 2]], [[3, 4]]], labels=[[0], [1]], boxes=[[0, 0, 9, 9]] * 2)
    np.testing.assert_array_equal(prompts.labels, [0, 2, 3, 1, 2, 3])
    np.testing.assert_array_equal(prompts.offsets, [0, 3, 6])
    np.testing.assert_array_equal(prompts.points[3], [3, 4])


def test_a_mask_alone_is_a_prompt_without_points():
    prompts = check(mask_logits=np.zeros((SIDE, SIDE)))
    assert len(prompts) == 1
    assert len(prompts.points) == 0
    (batch,) = prompts.batches(FRAME, limit=8)
    assert batch.point_coords.shape == (1, 0, 2)
    assert batch.mask_input is not None
    assert batch.mask_input.shape == (1, 1, SIDE, SIDE)


def test_ragged_prompts_are_batched_by_length_without_padding():
    ragged = [[[1, 1]], [[2, 2], [3, 3]], [[4, 4]], [[5, 5], [6, 6]], [[7, 7]]]
    prompts = check(points=ragged)
    batches = list(prompts.batches(FRAME, limit=2))
    seen = np.concatenate([batch.indices for batch in batches])
    assert sorted(seen) == [0, 1, 2, 3, 4]
    for batch in batches:
        assert len(batch.indices) <= 2
        for index, coords, labels in zip(
            batch.indices, batch.point_coords, batch.point_labels, strict=True
        ):
            np.testing.assert_allclose(coords[:-1], FRAME.to_model(ragged[index]))
            np.testing.assert_array_equal(labels, [1] * len(ragged[index]) + [-1])


def test_explicit_padding_is_kept_as_the_network_knows_it():
    prompts = check(points=[[[5, 5], [np.nan, -7]]], labels=[[1, -1]])
    np.testing.assert_array_equal(prompts.labels, [1, -1, -1])
    np.testing.assert_array_equal(prompts.points[1], [0, 0])


def test_coordinates_are_scaled_as_sam_scales_them():
    (batch,) = check(points=[320, 240]).batches(FRAME, limit=1)
    np.testing.assert_allclose(batch.point_coords[0, 0], [32, 24])


def test_grid_points_equal_the_same_points_given_one_by_one():
    points = np.array([[1.0, 2.0], [30.0, 40.0]])
    grid, given = single_points(points), check(points=points[:, None])
    np.testing.assert_array_equal(grid.points, given.points)
    np.testing.assert_array_equal(grid.labels, given.labels)
    np.testing.assert_array_equal(grid.offsets, given.offsets)


@pytest.mark.parametrize(
    "empty", [{"boxes": np.zeros((0, 4))}, {"points": []}, {"points": np.zeros((0, 3, 2))}]
)
def test_no_prompts_make_no_batches(empty):
    prompts = check(**empty)
    assert len(prompts) == 0
    assert list(prompts.batches(FRAME, limit=4)) == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "everything"),
        ({"points": [641, 3]}, "outside the image"),
        ({"points": [-1, 3]}, "outside the image"),
        ({"points": [np.nan, 3]}, "finite"),
        ({"points": [1, 2, 3]}, r"\(points, 2\)"),
        ({"points": "point"}, "numbers"),
        ({"points": [1, 2], "labels": [7]}, "label 7"),
        ({"points": [1, 2], "labels": [1, 1]}, "as many labels"),
        ({"points": [[[1, 2]], [[3, 4]]], "labels": [[1]]}, "labels for 1"),
        ({"labels": [1]}, "without points"),
        ({"boxes": [30, 20, 10, 40]}, "reversed or empty"),
        ({"boxes": [10, 20, 10, 40]}, "reversed or empty"),
        ({"boxes": [700, 500, 800, 600]}, "outside the image"),
        ({"boxes": [0, 0, np.inf, 4]}, "finite"),
        ({"boxes": [[0, 0, 4]]}, r"\(prompts, 4\)"),
        ({"points": [1, 2], "boxes": [[0, 0, 4, 4]] * 2}, "points for 1, boxes for 2"),
        ({"mask_logits": np.zeros((1, 4, 4))}, "Masks.logits"),
        ({"mask_logits": np.full((SIDE, SIDE), np.nan)}, "finite"),
    ],
)
def test_a_malformed_request_is_named(request_, words):
    with pytest.raises(PromptError, match=words) as caught:
        check(**request_)
    assert isinstance(caught.value, FastsegError)
    assert isinstance(caught.value, ValueError)
