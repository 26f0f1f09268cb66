"""Labels of short-axis frames: from a cavity alone to cavity, muscle and both.

The published cavities come from circles (Hough) and from an edge network that starts at ImageNet
weights; the first is not reproducible across library versions and the second is not available
offline. Here a cavity comes from a network that already finds one. The thickness of the muscle is
drawn at random, as published: it is prior knowledge, not a measurement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fastseg import ops

Mask = NDArray[np.bool_]

CAVITY_THRESHOLD = 0.4
"""Probability above which a pixel is cavity."""

INWARD = (3, 5)
OUTWARD = (6, 13)
"""Pixels from the cavity's edge to both borders of the muscle, ends included."""


def cavity(probability: NDArray[np.float32]) -> Mask:
    """Find the largest piece of cavity, closed and filled.

    Args:
        probability: (h, w) in [0, 1].
    """
    cleaned = ops.clean_chambers(
        probability[None, None], threshold=CAVITY_THRESHOLD, exclusive=False, threads=1
    )
    only: Mask = cleaned[0, 0]
    return only


def add_ring(found: Mask, random: np.random.Generator) -> Mask:
    """Lay a ring of muscle around the edge of a cavity.

    Args:
        found: bool (h, w).
        random: Draws the reach of the muscle inward and outward.

    Returns:
        bool (3, h, w): cavity, ring, disc, which is both.
    """
    from skimage.morphology import disk

    inward = int(random.integers(*INWARD, endpoint=True))
    outward = int(random.integers(*OUTWARD, endpoint=True))
    inner = ndimage.binary_erosion(found, disk(inward))
    outer = ndimage.binary_dilation(found, disk(outward))
    return np.stack([inner, outer & ~inner, outer])
