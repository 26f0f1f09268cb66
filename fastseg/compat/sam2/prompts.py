"""Prompts of SAM 2 in its square: the corners of a box, then points, then padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.compat import tensors
from fastseg.compat.square_prompts import SquarePrompts
from fastseg.contract import LABEL_BOX_BOTTOM_RIGHT, LABEL_BOX_TOP_LEFT, LABEL_PADDING
from fastseg.errors import PromptError

_CORNERS = np.array([[LABEL_BOX_TOP_LEFT, LABEL_BOX_BOTTOM_RIGHT]], np.int32)


def square_prompts(
    points: Any, labels: Any, boxes: Any, masks: Any, *, size: tuple[int, int], side: int
) -> SquarePrompts:
    """Lay prompts out as the reference's predictor does.

    Args:
        points: (points, 2) or (n, points, 2), or None.
        labels: (points,) or (n, points): -1 padding, 0 background, 1 foreground, 2 and 3 the
            corners of a box.
        boxes: (4,) or (n, 4), or None.
        masks: (1, h, w) or (n, 1, h, w), or None.
        size: Height and width that coordinates are divided by.
        side: Side of the square in pixels.

    Raises:
        AssertionError: There are points without labels.
        PromptError: A label is not known, or the prompts are not for equally many.
    """
    parts = []
    if boxes is not None:
        corners = _placed(boxes, size, side).reshape(-1, 2, 2)
        parts.append((corners, np.repeat(_CORNERS, len(corners), axis=0)))
    if points is not None:
        if labels is None:
            raise AssertionError("point_labels must be supplied if point_coords is supplied.")
        parts.append(_points(_placed(points, size, side), labels))
    mask = _mask(masks)
    count = len(parts[0][0]) if parts else 1 if mask is None else len(mask)
    fits = mask is None or len(mask) in (1, count)
    if not fits or any(len(coords) != count for coords, _ in parts):
        given = [len(coords) for coords, _ in parts]
        shape = None if mask is None else mask.shape
        raise PromptError(
            f"boxes and points are for {given} prompts and masks are {shape}. Give points "
            "(n, points, 2), boxes (n, 4) and masks (n, 1, h, w)."
        )
    if parts:
        padding = np.zeros((count, 1, 2), np.float32), np.full((count, 1), LABEL_PADDING, np.int32)
        parts.append(padding)
    else:
        parts.append((np.zeros((count, 0, 2), np.float32), np.zeros((count, 0), np.int32)))
    if mask is not None:
        mask = np.ascontiguousarray(np.broadcast_to(mask, (count, *mask.shape[1:])))
    coords, marks = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    return SquarePrompts(coords, marks, mask)


def _placed(values: Any, size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Divide pairs by width and height, then multiply by the side, in float32 as the reference."""
    coords: NDArray[np.float32] = tensors.to_array(values).astype(np.float32)
    if coords.shape[-1] == 4:
        coords = coords.reshape(-1, 2, 2)
    if coords.ndim < 2 or coords.shape[-1] != 2:
        raise PromptError(f"points must be (n, points, 2) and boxes (n, 4), not {coords.shape}.")
    shares = coords / np.array(size[::-1], np.float32)
    return (shares * side).astype(np.float32)


def _points(
    coords: NDArray[np.float32], labels: Any
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    marks = tensors.to_array(labels).astype(np.int32)
    if coords.ndim == 2:
        coords, marks = coords[None], marks[None]
    if marks.shape != coords.shape[:2]:
        raise PromptError(
            f"points are {coords.shape[:2]} and labels {marks.shape}. Give each point a label."
        )
    if not np.isin(marks, (-1, 0, 1, 2, 3)).all():
        raise PromptError(
            "labels are 1 (foreground), 0 (background), 2 and 3 (corners of a box) or -1 (padding)."
        )
    return coords, marks


def _mask(masks: Any) -> NDArray[np.float32] | None:
    if masks is None:
        return None
    found = np.ascontiguousarray(tensors.to_array(masks), np.float32)
    if found.ndim == 3:
        found = found[None]
    if found.ndim != 4 or found.shape[1] != 1:
        raise PromptError(f"mask_input must be (1, h, w) or (n, 1, h, w), not {found.shape}.")
    return found
