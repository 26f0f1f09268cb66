"""Maps of points for networks that take them as channels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastseg.contract import LABEL_FOREGROUND


def point_maps(
    points: NDArray[np.float64],
    labels: NDArray[np.int32],
    size: tuple[int, int],
    radius: float,
) -> NDArray[np.float32]:
    """Draw a disk around each point (Sofiiuk et al., arXiv 2102.06583).

    Args:
        points: (n, 2) x before y, in pixels of the map; whole numbers are the middles of pixels.
        labels: (n,) 1 foreground, 0 background.
        size: Height and width of the map.
        radius: A pixel belongs to a disk up to this distance from its point.

    Returns:
        float32 (2, *size) of zeros and ones: foreground points, then background points.
    """
    maps = np.zeros((2, *size), np.float32)
    for (x, y), label in zip(points, labels, strict=True):
        rows = _reach(y, radius, size[0])
        columns = _reach(x, radius, size[1])
        down = rows.astype(np.float32) - np.float32(y)
        across = columns.astype(np.float32) - np.float32(x)
        inside = down[:, None] ** 2 + across**2 <= np.float32(radius) ** 2
        plane = maps[0 if label == LABEL_FOREGROUND else 1]
        plane[np.ix_(rows, columns)] = np.maximum(plane[np.ix_(rows, columns)], inside)
    return maps


def _reach(middle: float, radius: float, length: int) -> NDArray[np.intp]:
    """List the places along an axis that a disk may cover."""
    first = max(math.ceil(middle - radius), 0)
    return np.arange(first, min(math.floor(middle + radius), length - 1) + 1)
