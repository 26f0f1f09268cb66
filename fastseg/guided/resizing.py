"""Bilinear resizing with corners on corners, as iterative-mask networks were trained with."""

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
    low, high, share = _neighbours(maps.shape[1], size[0])
    rows: NDArray[np.float32] = maps[:, low] * (1 - share[:, None]) + maps[:, high] * share[:, None]
    low, high, share = _neighbours(maps.shape[2], size[1])
    resized: NDArray[np.float32] = rows[:, :, low] * (1 - share) + rows[:, :, high] * share
    return resized


def _neighbours(
    count: int, length: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Find both neighbours of each place among ``count``, and the share of the second."""
    step = np.float32((count - 1) / (length - 1) if length > 1 else 0)
    places = np.arange(length, dtype=np.float32) * step
    low = np.minimum(places.astype(np.intp), count - 1)
    return low, np.minimum(low + 1, count - 1), places - low.astype(np.float32)
