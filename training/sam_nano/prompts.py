"""Prompts for generated objects: single points, boxes, several points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastseg import contract
from training.sam_nano.scenes import Scene

PromptKind = Literal["point", "box", "points"]

PADDED = -1
"""The label of pixels that lie outside the image, in the square's padding."""

UNKNOWN = -2
"""The label of pixels that may show an object without a number."""

SMALLEST_AREA = 160
"""Least pixels of a target: fewer make less than 10 mask pixels."""

USUAL_SLACK = 0.05
SLACKS = (0.0, 0.0, 0.02, 0.05, 0.1)
"""Deviation of a box's sides as a share of its size; tight boxes are common."""

MIDDLE_SHARE = 0.4
"""Share of first points deep inside the object; the others lie anywhere on it."""

STRIDE = 8
"""Step in pixels of the search for a point deep inside a mask."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Points and labels of a prompt in pixels of the scene, and its target mask."""

    coords: NDArray[np.float32]
    """``(points, 2)``, x before y."""

    labels: NDArray[np.int32]
    """``(points,)`` as the decoder takes them."""

    target: NDArray[np.bool_]
    """``(height, width)``: the visible pixels of the object."""


def targets(scene: Scene) -> list[NDArray[np.bool_]]:
    """Return the visible masks of a scene that are large enough: whole objects, then parts.

    A part has parts of its own where the scene says so.
    """
    levels = [scene.labels]
    while not np.array_equal(outer := scene.wholes[levels[-1]], levels[-1]):
        levels.append(outer)
    wholes = [levels[-1] == label for label in _visible_objects(levels[-1])]
    is_part = scene.wholes != np.arange(len(scene.wholes))
    found = np.unique(np.concatenate([_visible_objects(level) for level in levels]))
    parts = [
        np.logical_or.reduce([level == label for level in levels])
        for label in found
        if is_part[label]
    ]
    return [mask for mask in wholes + parts if np.count_nonzero(mask) >= SMALLEST_AREA]


def _visible_objects(labels: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return the numbers of the objects that are visible, in order."""
    return np.flatnonzero(np.bincount(np.maximum(labels, 0).ravel())[1:]) + 1


def _random_pixels(
    random: np.random.Generator, mask: NDArray[np.bool_], count: int
) -> NDArray[np.int64]:
    """Draw random pixels ``(count, 2)`` of a mask, x before y."""
    pixels = np.flatnonzero(mask)
    y, x = np.divmod(pixels[random.integers(0, len(pixels), count)], mask.shape[1])
    return np.stack([x, y], axis=1)


def _deep_point(random: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Draw a pixel (1, 2) deep inside a mask, x before y: where a person would click."""
    left = np.pad(mask[::STRIDE, ::STRIDE], 1)
    if not left.any():
        return _random_pixels(random, mask, 1)
    while left.any():
        last, left = left, left.copy()
        for axis in (0, 1):
            left &= np.roll(last, 1, axis) & np.roll(last, -1, axis)
    rows, columns = np.nonzero(last)
    chosen = random.integers(len(rows))
    return STRIDE * (np.array([[columns[chosen], rows[chosen]]]) - 1)


def _box(random: np.random.Generator, mask: NDArray[np.bool_], slack: float) -> NDArray[np.float64]:
    """Draw the corners ``(2, 2)`` of the mask's box, each side moved by about ``slack`` of it."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    corners = np.array([[columns[0], rows[0]], [columns[-1], rows[-1]]], dtype=np.float64)
    reach = np.minimum(slack * (corners[1] - corners[0]) + 1, 10)
    moved = corners + random.normal(0, 1, (2, 2)) * reach
    return np.clip(moved, 0, np.array(mask.shape[::-1]) - 1)


def sample(
    random: np.random.Generator,
    mask: NDArray[np.bool_],
    kind: PromptKind,
    extra: int,
    slack: float = USUAL_SLACK,
) -> Prompt:
    """Draw a prompt for ``mask``.

    Args:
        random: Decides the positions.
        mask: The object's visible pixels.
        kind: One point, a box, or a point followed by ``extra`` corrections.
        extra: Number of corrections: foreground points on the object, background points beside it.
        slack: Deviation of the sides of a box, as a share of the box.
    """
    if kind == "box":
        labels = [contract.LABEL_BOX_TOP_LEFT, contract.LABEL_BOX_BOTTOM_RIGHT]
        return Prompt(
            _box(random, mask, slack).astype(np.float32), np.array(labels, np.int32), mask
        )
    deep = random.random() < MIDDLE_SHARE
    points = [_deep_point(random, mask) if deep else _random_pixels(random, mask, 1)]
    labels = [contract.LABEL_FOREGROUND]
    corrections = extra if kind == "points" else 0
    outside = ~mask & _surroundings(mask) if corrections else mask
    for _ in range(corrections):
        negative = random.random() < 0.45 and bool(outside.any())
        points.append(_random_pixels(random, outside if negative else mask, 1))
        labels.append(contract.LABEL_BACKGROUND if negative else contract.LABEL_FOREGROUND)
    # The decoder was trained with a padding point wherever there is no box.
    coords = np.concatenate([*points, np.zeros((1, 2), np.int64)]).astype(np.float32)
    return Prompt(coords, np.array([*labels, contract.LABEL_PADDING], np.int32), mask)


def _surroundings(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask's box, enlarged by half on every side."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    wide, high = columns[-1] - columns[0] + 8, rows[-1] - rows[0] + 8
    near = np.zeros_like(mask)
    near[
        max(0, rows[0] - high // 2) : rows[-1] + high // 2,
        max(0, columns[0] - wide // 2) : columns[-1] + wide // 2,
    ] = True
    return near
