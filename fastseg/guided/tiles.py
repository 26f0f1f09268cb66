"""Tiles over an image, whose logits are averaged with Gaussian weights.

The rules are those of nnU-Net (Isensee et al. 2021): tiles overlap by half, and their middles count
more than their borders.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Size = tuple[int, int]

_SIGMA = 1 / 8
"""Deviation of the weights, as a share of a tile's side."""


def average_tiles(maps: Floats, tile: Size, step: float, run: Callable[[Floats], Floats]) -> Floats:
    """Run a network on tiles of an image and average its logits.

    An image that is smaller than a tile is padded by zeros on both sides.

    Args:
        maps: (channels, height, width).
        tile: Height and width of a tile.
        step: Distance of two tiles at most, as a share of their sides.
        run: Maps (channels, *tile) to logits ``tile``.

    Returns:
        (height, width) logits.
    """
    height, width = maps.shape[1:]
    padding = [_around(size, side) for size, side in zip((height, width), tile, strict=True)]
    padded = np.pad(maps, [(0, 0), *padding])
    rows, columns = (
        tile_starts(size, side, step) for size, side in zip(padded.shape[1:], tile, strict=True)
    )
    weights = np.outer(tile_weights(tile[0]), tile_weights(tile[1])).astype(np.float32)
    total, weight = np.zeros(padded.shape[1:], np.float32), np.zeros(padded.shape[1:], np.float32)
    for row in rows:
        for column in columns:
            place = slice(row, row + tile[0]), slice(column, column + tile[1])
            total[place] += weights * run(np.ascontiguousarray(padded[:, place[0], place[1]]))
            weight[place] += weights
    (top, _), (left, _) = padding
    averaged: Floats = (total / weight)[top : top + height, left : left + width]
    return averaged


def tile_starts(length: int, side: int, step: float) -> list[int]:
    """List the first pixels of tiles along an axis that is at least as long as a tile."""
    count = math.ceil((length - side) / (side * step)) + 1
    distance = (length - side) / (count - 1) if count > 1 else 0.0
    return [round(distance * number) for number in range(count)]


def tile_weights(side: int) -> NDArray[np.float64]:
    """Return the weights (side,) of a tile along an axis: a Gaussian, 1 at its middle."""
    away = (np.arange(side) - side // 2) / (side * _SIGMA)
    return np.exp(-(away**2) / 2)


def _around(length: int, side: int) -> tuple[int, int]:
    """Return the zeros before and after an axis that is shorter than a tile."""
    missing = max(side - length, 0)
    return missing // 2, missing - missing // 2
