"""The map of a box for networks that take it as a channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_map(
    corners: NDArray[np.float64], image: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Fill a box with ones, in an image that was stretched to ``size``.

    Coordinates are cut to whole pixels and the far ones do not belong to the box, as in the code
    that MedSAM's comparison describes; a box that would vanish keeps one row and one column.

    Args:
        corners: (2, 2) x0 y0 and x1 y1 in pixels of the image.
        image: Its height and width.
        size: Height and width of the map.

    Returns:
        float32 (1, *size) of zeros and ones.
    """
    scale = np.array([size[1] / image[1], size[0] / image[0]])
    limits = np.array([size[1], size[0]])
    near, far = np.clip(np.trunc(corners * scale), 0, limits).astype(np.int64)
    near = np.minimum(near, limits - 1)
    far = np.maximum(far, near + 1)
    filled = np.zeros((1, *size), np.float32)
    filled[0, near[1] : far[1], near[0] : far[0]] = 1
    return filled
