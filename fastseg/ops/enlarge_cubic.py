"""Enlargement of planes by cubic convolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.ops import checks


def enlarge_cubic(
    planes: NDArray[np.float32],
    size: tuple[int, int],
    *,
    out: NDArray[np.float32] | None = None,
    threads: int = 0,
) -> NDArray[np.float32]:
    """Resize planes by cubic convolution of their 4 x 4 nearest values, as PyTorch does.

    The method is that of Keys (1981) with the slope -0.75. Values are repeated beyond the edges.

    Args:
        planes: ``(n, h, w)`` float32, C-contiguous, not empty but for ``n``.
        size: height and width of the result in pixels, at least 1.
        out: ``(n, H, W)`` float32, C-contiguous, at least of that size; the result is written to
            its first rows and columns. None makes one of the size.
        threads: cores to use at most; 0 is all.

    Returns:
        ``out``.

    Raises:
        BackendError: shapes or dtypes are not these.
    """
    height, width = size
    if out is None:
        out = np.empty((len(planes), height, width), np.float32)
    if planes.dtype != np.float32 or planes.ndim != 3 or not planes.flags.c_contiguous:
        raise BackendError(f"planes must be float32 (n, h, w), not {planes.dtype} {planes.shape}")
    if out.dtype != np.float32 or out.ndim != 3 or not out.flags.carray:
        raise BackendError(f"out must be float32 (n, H, W), not {out.dtype} {out.shape}")
    if min(*planes.shape[1:], height, width) < 1:
        raise BackendError(f"planes {planes.shape} and the size {size} must not be empty")
    if len(out) != len(planes) or out.shape[1] < height or out.shape[2] < width:
        raise BackendError(f"out {out.shape} has no room for {len(planes)} planes of {size}")
    _core.enlarge_cubic(planes, (height, width), out, checks.threads(threads))
    return out
