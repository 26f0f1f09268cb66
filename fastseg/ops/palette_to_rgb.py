"""Colours of a palette."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import ImageError
from fastseg.ops import checks

ENTRIES = 256
"""Colours of a palette for indices of 8 bits."""


def palette_to_rgb(
    indices: NDArray[np.uint8], colours: NDArray[np.uint8], *, threads: int = 0
) -> NDArray[np.uint8]:
    """Give every index its colour.

    Args:
        indices: uint8 of any shape.
        colours: ``(256, 3)`` uint8.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(*indices.shape, 3)`` uint8.

    Raises:
        ImageError: indices or colours are not of that shape and dtype.
    """
    indices, colours = np.ascontiguousarray(indices), np.ascontiguousarray(colours)
    if indices.dtype != np.uint8 or colours.dtype != np.uint8 or colours.shape != (ENTRIES, 3):
        raise ImageError(
            f"a palette gives uint8 indices ({ENTRIES}, 3) uint8 colours, not {indices.dtype} and "
            f"{colours.shape} {colours.dtype}"
        )
    out = np.empty((*indices.shape, 3), np.uint8)
    _core.palette_to_rgb(indices.reshape(-1), colours, out.reshape(-1, 3), checks.threads(threads))
    return out
