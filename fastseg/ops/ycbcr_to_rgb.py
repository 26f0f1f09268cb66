"""Conversion of luma and chroma to RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import ImageError
from fastseg.ops import checks


def ycbcr_to_rgb(
    frames: NDArray[np.uint8], *, out: NDArray[np.uint8] | None = None, threads: int = 0
) -> NDArray[np.uint8]:
    """Convert YCbCr of full range to RGB, rounded half up (DICOM PS3.3, C.7.6.3.1.2).

    Args:
        frames: ``(..., 3)`` uint8: luma, blue difference, red difference.
        out: array of the same shape to write to, C-contiguous; may be ``frames``. None makes one.
        threads: cores to use at most; 0 is all.

    Returns:
        uint8 of the same shape: red, green, blue.

    Raises:
        ImageError: frames or ``out`` are not of that shape and dtype.
    """
    frames = np.ascontiguousarray(frames)
    if frames.dtype != np.uint8 or frames.ndim < 2 or frames.shape[-1] != 3:
        raise ImageError(
            f"luma and chroma must be uint8 (..., 3), not {frames.dtype} {frames.shape}"
        )
    if out is None:
        out = np.empty(frames.shape, np.uint8)
    elif out.shape != frames.shape or out.dtype != np.uint8 or not out.flags.carray:
        raise ImageError(f"out must be uint8 {frames.shape}, contiguous and writable")
    _core.ycbcr_to_rgb(frames.reshape(-1, 3), out.reshape(-1, 3), checks.threads(threads))
    return out
