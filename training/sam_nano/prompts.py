"""Prompts for generated objects: clicks, boxes, several points, rough masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastseg import contract
from training.sam_nano.scenes import Scene

Kind = Literal["click", "box", "points"]

PADDED = -1
"""The label of pixels that lie outside the picture, in the square's padding."""

SMALLEST_AREA = 160
"""Pixels of an object below which it is no use as a target: fewer than 10 mask pixels."""

USUAL_SLACK = 0.05
SLACKS = (0.0, 0.0, 0.02, 0.05, 0.1)
"""How far the sides of a box may be off; tight boxes are common, hasty ones rare."""

MIDDLE_SHARE = 0.4
"""First clicks that lie deep inside the object; the others lie anywhere on it."""

SIEVE = 8
"""Every so many pixels are looked at to find the middle."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What was asked, in pixels of the scene, and what the answer is."""

    coords: NDArray[np.float32]
    """``(points, 2)``, x before y."""

    labels: NDArray[np.int32]
    """``(points,)`` as the decoder takes them."""

    target: NDArray[np.bool_]
    """``(height, width)``: the visible pixels of the object."""


def targets(scene: Scene) -> list[NDArray[np.bool_]]:
    """The visible masks of a scene that are large enough: whole objects, then their parts."""
    shown = scene.labels
    owners = np.where(shown > 0, scene.wholes[np.maximum(shown, 0)], shown)
    wholes = [owners == label for label in _numbers(owners)]
    is_part = scene.wholes != np.arange(len(scene.wholes))
    parts = [shown == label for label in _numbers(shown) if is_part[label]]
    return [mask for mask in wholes + parts if np.count_nonzero(mask) >= SMALLEST_AREA]


def _numbers(labels: NDArray[np.int16]) -> NDArray[np.int64]:
    """The objects that show somewhere, in order."""
    return np.flatnonzero(np.bincount(np.maximum(labels, 0).ravel())[1:]) + 1


def _inside(random: np.random.Generator, mask: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Random pixels ``(count, 2)`` of a mask, x before y."""
    places = np.flatnonzero(mask)
    y, x = np.divmod(places[random.integers(0, len(places), count)], mask.shape[1])
    return np.stack([x, y], axis=1)


def _middle(random: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A pixel (1, 2) deep inside a mask, x before y: where a person would click."""
    left = np.pad(mask[::SIEVE, ::SIEVE], 1)
    if not left.any():
        return _inside(random, mask, 1)
    while left.any():
        last, left = left, left.copy()
        for axis in (0, 1):
            left &= np.roll(last, 1, axis) & np.roll(last, -1, axis)
    rows, columns = np.nonzero(last)
    chosen = random.integers(len(rows))
    return SIEVE * (np.array([[columns[chosen], rows[chosen]]]) - 1)


def _box(random: np.random.Generator, mask: NDArray[np.bool_], slack: float) -> NDArray[np.float64]:
    """The corners ``(2, 2)`` of the mask's box, each side moved by about ``slack`` of it."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    corners = np.array([[columns[0], rows[0]], [columns[-1], rows[-1]]], dtype=np.float64)
    reach = np.minimum(slack * (corners[1] - corners[0]) + 1, 10)
    moved = corners + random.normal(0, 1, (2, 2)) * reach
    return np.clip(moved, 0, np.array(mask.shape[::-1]) - 1)


def sample(
    random: np.random.Generator,
    mask: NDArray[np.bool_],
    kind: Kind,
    extra: int,
    slack: float = USUAL_SLACK,
) -> Prompt:
    """Ask for ``mask``.

    Args:
        random: Decides where.
        mask: The object's visible pixels.
        kind: One click, a box, or a click followed by ``extra`` corrections.
        extra: Number of corrections; clicks on the object or, to say what is not, beside it.
        slack: How far the sides of a box lie off, as a share of the box.
    """
    if kind == "box":
        labels = [contract.LABEL_BOX_TOP_LEFT, contract.LABEL_BOX_BOTTOM_RIGHT]
        return Prompt(
            _box(random, mask, slack).astype(np.float32), np.array(labels, np.int32), mask
        )
    deep = random.random() < MIDDLE_SHARE
    points = [_middle(random, mask) if deep else _inside(random, mask, 1)]
    labels = [contract.LABEL_FOREGROUND]
    asked_again = extra if kind == "points" else 0
    outside = ~mask & _near(mask) if asked_again else mask
    for _ in range(asked_again):
        negative = random.random() < 0.45 and bool(outside.any())
        points.append(_inside(random, outside if negative else mask, 1))
        labels.append(contract.LABEL_BACKGROUND if negative else contract.LABEL_FOREGROUND)
    # The decoder learned its answers with a padding point wherever there is no box.
    coords = np.concatenate([*points, np.zeros((1, 2), np.int64)]).astype(np.float32)
    return Prompt(coords, np.array([*labels, contract.LABEL_PADDING], np.int32), mask)


def _near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's box, enlarged by half on every side."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    wide, high = columns[-1] - columns[0] + 8, rows[-1] - rows[0] + 8
    near = np.zeros_like(mask)
    near[
        max(0, rows[0] - high // 2) : rows[-1] + high // 2,
        max(0, columns[0] - wide // 2) : columns[-1] + wide // 2,
    ] = True
    return near
