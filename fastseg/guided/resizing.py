"""Bilinear resizing without smoothing, with corners on corners or edges on edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resize_corners(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize maps so that the middles of their corner pixels stay where they are.

    Args:
        maps: float32 (n, height, width).
        size: Height and width of the result.

    Returns:
        float32 (n, *size); ``maps`` itself where the size is theirs.
    """
    if maps.shape[1:] == size:
        return maps
    places = [_corners(count, side) for count, side in zip(maps.shape[1:], size, strict=True)]
    return _blended(maps, places[0], places[1])


def resize_bilinear(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize a map so that its edges stay where they are; pixels beyond an edge repeat it.

    Args:
        plane: float32 (height, width).
        size: Height and width of the result.

    Returns:
        float32 ``size``.
    """
    places = [_edges(count, side) for count, side in zip(plane.shape, size, strict=True)]
    resized: NDArray[np.float32] = _blended(plane[None], places[0], places[1])[0]
    return resized


def _blended(
    maps: NDArray[np.float32], down: NDArray[np.float32], across: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Blend the four neighbours of each place, a row and a column of the maps."""
    low, high, share = _neighbours(maps.shape[1], down)
    rows: NDArray[np.float32] = maps[:, low] * (1 - share[:, None]) + maps[:, high] * share[:, None]
    low, high, share = _neighbours(maps.shape[2], across)
    blended: NDArray[np.float32] = rows[:, :, low] * (1 - share) + rows[:, :, high] * share
    return blended


def _corners(count: int, length: int) -> NDArray[np.float32]:
    """Place ``length`` pixels among ``count``, the first and the last on the outermost."""
    step = np.float32((count - 1) / (length - 1) if length > 1 else 0)
    places: NDArray[np.float32] = np.arange(length, dtype=np.float32) * step
    return places


def _edges(count: int, length: int) -> NDArray[np.float32]:
    """Place ``length`` pixels among ``count``, with both rows of pixels equally long."""
    places = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(count / length)
    inside: NDArray[np.float32] = np.maximum(places - np.float32(0.5), np.float32(0))
    return inside


def _neighbours(
    count: int, places: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Find both neighbours of each place among ``count``, and the share of the second."""
    low = np.minimum(places.astype(np.intp), count - 1)
    return low, np.minimum(low + 1, count - 1), places - low.astype(np.float32)
