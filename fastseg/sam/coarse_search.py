"""A coarse-to-fine search: the order in which a grid is decoded, and the points it leaves out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg.geometry import Frame
from fastseg.masks import Masks
from fastseg.ops import Rle


def grid_levels(per_side: int) -> list[NDArray[np.intp]]:
    """Divide the points of a regular grid into levels, each finer than those before it.

    Each of the first four levels is an eighth of the points and the last is half of them. The first
    level lies like the dark squares of a chessboard whose squares are two steps wide, and the first
    four together like those of one whose squares are a step wide.

    Args:
        per_side: Points along each side of the grid.

    Returns:
        Five arrays of indices into ``ops.point_grid(per_side)``, ascending; some may be empty.
    """
    y, x = np.mgrid[:per_side, :per_side]
    odd, even = (y % 2 == 1) & (x % 2 == 1), (y % 2 == 0) & (x % 2 == 0)
    first = odd & (y % 4 == x % 4)
    third = even & (y % 4 != x % 4)
    levels = (first, odd & ~first, third, even & ~third, ~(odd | even))
    return [np.flatnonzero(level) for level in levels]


class Coverage:
    """The points of a grid that masks cover, so that a search need not decode them.

    A mask covers the points inside it. One whose predicted IoU is not above ``sure`` covers only
    those from which half a step of the grid to each side stays inside: near its border another
    mask may be better.

    Args:
        points: float (n, 2), x before y, in pixels of the image.
        frame: The crop that the grid lies in.
        per_side: Points along each side of the grid.
        sure: Predicted IoU above which a mask covers all of its points.
    """

    def __init__(
        self, points: NDArray[np.float64], frame: Frame, per_side: int, *, sure: float
    ) -> None:
        self.covered = np.zeros(len(points), bool)
        """(n,) true for the points that a mask covers."""
        self._sure = np.float32(sure)
        height, width = frame.size
        x0, y0, x1, y1 = frame.crop_box
        step = np.array([width, height]) / (2 * per_side)
        sides = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]) * step
        pixels = np.floor(points[None] + sides[:, None]).astype(np.int64)
        pixels = pixels.clip((x0, y0), (x1 - 1, y1 - 1))
        # Run lengths go down the columns of the image.
        self._places: NDArray[np.int64] = pixels[..., 0] * frame.image[0] + pixels[..., 1]

    def add(self, masks: Masks) -> None:
        """Cover the points of some masks of the image."""
        for index in range(len(masks)):
            inside = _holds(masks.runs[index], self._places)
            whole = masks.scores[index] > self._sure
            self.covered |= inside[0] if whole else inside.all(axis=0)


def _holds(runs: Rle, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which pixels, counted down the columns, one mask holds."""
    ends = np.cumsum(runs.counts, dtype=np.int64)
    odd: NDArray[np.bool_] = np.searchsorted(ends, places, side="right") % 2 == 1
    return odd
