"""A grid of point prompts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import PromptError


def point_grid(points_per_side: int) -> NDArray[np.float64]:
    """Spread points evenly over the unit square, each at the centre of its cell.

    Returns:
        ``(points_per_side ** 2, 2)`` float64, x before y, x fastest, all within 0 to 1; the same
        bits as Segment Anything's grid.

    Raises:
        PromptError: ``points_per_side`` is less than 1.
    """
    if points_per_side < 1:
        raise PromptError(f"points_per_side must be at least 1, not {points_per_side}")
    out = np.empty((points_per_side**2, 2), np.float64)
    _core.point_grid(out, points_per_side)
    return out
