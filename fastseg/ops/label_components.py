"""Connected components of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.ops import checks


def label_components(
    masks: NDArray[np.bool_], *, threads: int = 0
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find and number the 8-connected components of masks.

    Args:
        masks: ``(n, h, w)`` bool.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(n, h, w)`` int32, 0 outside and from 1 in raster order of the first pixels of the
        components; and ``(n,)`` int64, the number of components.

    Raises:
        MaskError: the masks are not of that shape and dtype.
    """
    masks = checks.mask_planes(masks)
    labels = np.empty(masks.shape, np.int32)
    counts = np.empty(len(masks), np.int64)
    _core.label_components(masks.view(np.uint8), labels, counts, checks.threads(threads))
    return labels, counts
