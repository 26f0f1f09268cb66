"""Points on their way into a model: a grid of clicks, and prompts brought to one length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg import _core, checks
from fastseg.errors import PromptError


def point_grid(points_per_side: int) -> NDArray[np.float64]:
    """Spread points evenly over the unit square, each at the centre of its cell.

    Returns:
        ``(points_per_side ** 2, 2)`` float64, x before y, x fastest, all within 0 to 1; the same
        bits as Segment Anything's grid.

    Raises:
        PromptError: ``points_per_side`` is less than 1.
    """
    if points_per_side < 1:
        raise PromptError(f"points_per_side must be at least 1, not {points_per_side}")
    out = np.empty((points_per_side**2, 2), np.float64)
    _core.point_grid(out, points_per_side)
    return out


def pad_prompts(
    points: NDArray[np.float32], labels: NDArray[np.int32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Bring prompts of different lengths to the longest one's.

    Args:
        points: ``(total, 2)`` float32, the points of all prompts, one prompt after another.
        labels: ``(total,)`` int32.
        offsets: ``(n + 1,)`` int64, where each prompt begins, and the end of the last.

    Returns:
        ``(n, longest, 2)`` float32 and ``(n, longest)`` int32; missing points are (0, 0) with
        label -1.

    Raises:
        PromptError: the shapes contradict each other.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise PromptError(
            f"points must be (total, 2) and labels (total,), not {points.shape} and {labels.shape}"
        )
    checks.prompt_offsets(offsets, len(points))
    lengths = np.diff(offsets)
    longest = int(lengths.max(initial=0))
    padded_points = np.empty((len(lengths), longest, 2), np.float32)
    padded_labels = np.empty((len(lengths), longest), np.int32)
    _core.pad_prompts(points, labels, offsets, padded_points, padded_labels)
    return padded_points, padded_labels
