"""Weak labels of apical two-chamber frames: dark regions, separated by a watershed.

The steps and numbers are those of Ferreira et al., Nat Commun 16, 4070 (2025): chambers are dark,
large regions in the right position, found without manual labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.echo import bilateral

Mask = NDArray[np.bool_]

SIDE = 256
"""Side in pixels of the square that the numbers below refer to; it spans 20 cm."""

SMOOTHNESS = (0.25, 10.0)
"""Sigmas of the bilateral filter: of brightness (0..1), and spatial in pixels."""

CONTRAST = 20.0
"""Factor of the difference from the blurred frame."""

DARK = 0.1
"""Greatest brightness of a chamber after that."""

SMALLEST_REGION = 500
SMALLEST_HOLE = 1000
"""Least pixels of a region and of a hole; smaller ones are noise."""

PEAK_DISTANCE = 20
"""Pixels between two middles of chambers, and from them to the border."""

LONGEST_BORDER = 550.0
COLUMNS = (75.0, 200.0)
"""Greatest perimeter, and range of the centroid's column, of a chamber in pixels."""

BESIDE = 20
"""Greatest distance in pixels of a chamber's centroid from the columns of the largest one."""

ATRIUM_FROM = 148.0
"""Row from which on a chamber's centroid makes it an atrium."""


def two_chambers(luma: NDArray[np.floating]) -> Mask:
    """Find the left atrium and the left ventricle of one apical two-chamber frame.

    Args:
        luma: (256, 256) in [0, 1], apex up, 20 cm across.

    Returns:
        bool (3, 256, 256): union, LA, LV. Not cleaned: a chamber may be in pieces, or empty.
    """
    from skimage.measure import regionprops

    regions = _regions(luma)
    found = [
        region
        for region in regionprops(regions)
        if region.perimeter < LONGEST_BORDER and COLUMNS[0] < region.centroid[1] < COLUMNS[1]
    ]
    masks = np.zeros((3, *luma.shape), dtype=bool)
    if not found:
        return masks
    _, left, _, right = max(found, key=lambda region: region.area).bbox
    for region in found:
        row, column = region.centroid
        if left - BESIDE < column < right + BESIDE:
            masks[1 if row >= ATRIUM_FROM else 2] |= regions == region.label
    masks[0] = masks[1] | masks[2]
    return masks


def _regions(luma: NDArray[np.floating]) -> NDArray[np.intp]:
    """Label the dark regions from 1, each about one peak of the distance from its border."""
    from skimage.segmentation import watershed

    dark = _dark(luma)
    distance = ndimage.distance_transform_edt(dark)
    # Peaks are maxima of their neighbourhood. scikit-image's finder thins them out as well since
    # 0.18, which gives other labels.
    reach = 2 * PEAK_DISTANCE + 1
    peaks = (distance == ndimage.maximum_filter(distance, size=reach, mode="constant")) & dark
    inside = slice(PEAK_DISTANCE, -PEAK_DISTANCE)
    seeds = np.zeros_like(peaks)
    seeds[inside, inside] = peaks[inside, inside]
    numbered, _ = ndimage.label(seeds)
    flooded: NDArray[np.intp] = watershed(-distance, numbered, mask=dark)
    return flooded


def _dark(luma: NDArray[np.floating]) -> Mask:
    """Find pixels darker than their smooth surroundings, without specks."""
    from skimage.morphology import disk

    brightness, spatial = SMOOTHNESS
    smooth = bilateral.blur(luma, brightness=brightness, spatial=spatial)
    sharp = np.clip(luma + CONTRAST * (luma - smooth), 0, 1)
    darkest, brightest = sharp.min(), sharp.max()
    if darkest == brightest:
        return np.zeros(luma.shape, dtype=bool)
    dark = (sharp - darkest) / (brightest - darkest) < DARK
    dark = _without_small(dark, SMALLEST_REGION)
    dark = ~_without_small(~dark, SMALLEST_HOLE)
    opened: Mask = ndimage.binary_opening(dark, disk(2))
    return opened


def _without_small(mask: Mask, pixels: int) -> Mask:
    """Drop 4-connected pieces of fewer pixels."""
    numbered, _ = ndimage.label(mask)
    sizes = np.bincount(numbered.ravel())
    kept = sizes >= pixels
    kept[0] = False
    chosen: Mask = kept[numbered]
    return chosen
