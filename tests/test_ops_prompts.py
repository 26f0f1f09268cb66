"""Point grids equal SAM's; ragged prompts become rectangles."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import ops
from fastseg.errors import PromptError


@pytest.mark.parametrize("per_side", [1, 2, 3, 7, 16, 32, 64, 100])
def test_the_grid_has_the_bits_of_sams_own(per_side):
    offset = 1 / (2 * per_side)
    line = np.linspace(offset, 1 - offset, per_side)
    expected = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    np.testing.assert_array_equal(ops.point_grid(per_side), expected)


def test_the_grid_runs_along_x_first():
    np.testing.assert_array_equal(
        ops.point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    )


@pytest.mark.parametrize("per_side", [0, -3])
def test_a_grid_without_points_is_refused(per_side):
    with pytest.raises(PromptError, match=str(per_side)):
        ops.point_grid(per_side)


def test_shorter_prompts_are_padded_with_the_label_minus_one():
    points = np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    labels = np.array([1, 0, 2, 3], np.int32)
    padded, padded_labels = ops.pad_prompts(points, labels, np.array([0, 1, 1, 4]))
    np.testing.assert_array_equal(
        padded,
        [[[1, 2], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]], [[3, 4], [5, 6], [7, 8]]],
    )
    np.testing.assert_array_equal(padded_labels, [[1, -1, -1], [-1, -1, -1], [0, 2, 3]])


def test_no_prompts_give_an_empty_rectangle():
    points, labels = ops.pad_prompts(
        np.zeros((0, 2), np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64)
    )
    assert points.shape == (0, 0, 2)
    assert labels.shape == (0, 0)


@pytest.mark.parametrize(
    ("points", "labels", "offsets"),
    [
        (np.zeros((3, 3)), np.zeros(3), [0, 3]),
        (np.zeros((3, 2)), np.zeros(2), [0, 3]),
        (np.zeros((3, 2)), np.zeros(3), [0, 2]),
        (np.zeros((3, 2)), np.zeros(3), [1, 3]),
        (np.zeros((3, 2)), np.zeros(3), [0, 5, 3]),
        (np.zeros((3, 2)), np.zeros(3), []),
    ],
)
def test_contradicting_shapes_are_refused(points, labels, offsets):
    with pytest.raises(PromptError, match="must"):
        ops.pad_prompts(points, labels, np.array(offsets, np.int64))
