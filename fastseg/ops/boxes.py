"""Boxes of masks: suppression of overlaps, and detection of boxes that a crop cuts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import _core
from fastseg.errors import PromptError
from fastseg.geometry import Frame
from fastseg.ops import checks


def box_nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> NDArray[np.int64]:
    """Keep the best of boxes that overlap (greedy suppression with torchvision's arithmetic).

    Args:
        boxes: ``(n, 4)`` x0, y0, x1, y1, computed with in float32.
        scores: ``(n,)``; NaN counts as the highest.
        iou_threshold: boxes that overlap a better one by more than this are dropped.

    Returns:
        ``(kept,)`` int64 indices in descending order of score; equal scores keep their order.

    Raises:
        PromptError: the shapes contradict each other.
    """
    boxes = np.ascontiguousarray(boxes, dtype=np.float32)
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise PromptError(
            f"boxes must be (n, 4) and scores (n,), not {boxes.shape} and {scores.shape}"
        )
    kept = np.empty(len(boxes), np.int64)
    return kept[: _core.box_nms(boxes, scores, iou_threshold, kept)]


def near_crop_edge(boxes: ArrayLike, frame: Frame, tolerance: float = 20.0) -> NDArray[np.bool_]:
    """Find boxes that the crop probably cuts.

    Args:
        boxes: ``(n, 4)`` integers x0, y0, x1, y1 in pixels of the whole image.
        frame: the frame whose crop the boxes were found in.
        tolerance: pixels within which a box ends at an edge.

    Returns:
        ``(n,)`` bool: some side lies near the same side of the crop, but not near that of the
        image.

    Raises:
        PromptError: the boxes are not of that shape, or not integers.
    """
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iu":
        raise PromptError(f"boxes must be (n, 4) integers, not {boxes.shape} {boxes.dtype}")
    out = np.empty(len(boxes), np.bool_)
    _core.near_crop_edge(
        np.ascontiguousarray(boxes, dtype=np.int64),
        checks.native_frame(frame),
        tolerance,
        out.view(np.uint8),
    )
    return out
