"""Measures of a chamber's mask: area, long axis, and the disks that it is cut into."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import PromptError
from fastseg.ops import checks

Mode = Literal["default", "upright", "source"]
"""Rule for axis and disks, in the order of the kernels' rules."""

_MEASURES = 14
"""Columns that the kernel writes for every mask."""


class Shapes(NamedTuple):
    """Measures of ``n`` masks in pixels and radians; NaN where there is nothing to measure.

    A point is row, column, with pixel centres at whole numbers. Areas are those of the whole mask;
    everything else belongs to the piece that the axis is laid through.
    """

    areas: NDArray[np.float64]
    """``(n,)`` pixels; 0 for an empty mask."""

    convex_areas: NDArray[np.float64]
    """``(n,)`` pixels of the convex hull, as scikit-image's ``convex_hull_image`` counts them."""

    eccentricity: NDArray[np.float64]
    """``(n,)`` from 0 to 1, of the ellipse with the same second moments of pixel centres."""

    centroids: NDArray[np.float64]
    """``(n, 2)``."""

    major_axes: NDArray[np.float64]
    """``(n,)`` full length of that ellipse."""

    minor_axes: NDArray[np.float64]
    """``(n,)`` full width of that ellipse."""

    orientations: NDArray[np.float64]
    """``(n,)`` of the long axis, from down the rows towards the columns, -pi/2 to pi/2."""

    ends: NDArray[np.float64]
    """``(n, 2, 2)`` top and bottom of the axis."""

    lengths: NDArray[np.float64]
    """``(n,)`` distance between the ends."""

    chords: NDArray[np.float64]
    """``(n, disks, 2, 2)`` left and right end of the cut through every disk, the top one first."""

    diameters: NDArray[np.float64]
    """``(n, disks)`` length of every cut."""

    pieces: NDArray[np.int64]
    """``(n,)`` 8-connected components; 0 for an empty mask."""


def measure_shapes(
    masks: NDArray[np.bool_], mode: Mode = "default", *, disks: int = 21, threads: int = 0
) -> Shapes:
    """Measure masks for the method of disks.

    ``"default"`` lays the axis through the centroid of the largest component (of equal ones the
    first in raster order), in the direction of greatest variance. Ends and chords are where lines
    without width enter the component's pixel squares first and leave them last; the chords are
    perpendicular to the axis, through the middles of disks of equal height. Of an exactly
    horizontal axis the left end is the top.

    ``"upright"`` does the same about an axis that leans no more than 0.7 radians: a direction
    beyond is brought back, the nearer to the vertical the further it leans. A heart's chamber in an
    apical view has its axis from base to apex also where it is wider than long.

    ``"source"`` repeats what was published with Ferreira et al., Nat Commun 16, 4070 (2025): the
    axis belongs to the first component in raster order; a direction beyond 0.7 radians is replaced
    by 0.45; lines reach 0.6 major axes from the centroid, end on truncated whole pixels, are drawn
    as by scikit-image's ``line_aa`` and met with the whole mask; distances are those between pixel
    centres; and the cuts, at the disks' lower faces, move along the rows by one disk's height
    whichever disk it is.

    Sums are exact. Directions come from the C library's ``atan2``, ``sin`` and ``cos``, the only
    functions here whose last bit may differ between machines; a truncation in ``"source"`` mode
    would show it if an end fell on a whole pixel up to that bit.

    Args:
        masks: ``(n, h, w)`` bool.
        mode: the rule for axis and disks.
        disks: number of disks along the axis.
        threads: cores to use at most; 0 is all.

    Raises:
        MaskError: the masks are not of that shape and dtype.
        PromptError: the mode is unknown, or there is not at least one disk.
    """
    masks = checks.mask_planes(masks)
    if mode not in get_args(Mode) or disks < 1:
        raise PromptError(
            f"mode is one of {get_args(Mode)} and disks at least 1, not {mode!r}, {disks}"
        )
    count = len(masks)
    measures = np.empty((count, _MEASURES), np.float64)
    chords = np.empty((count, disks, 4), np.float64)
    diameters = np.empty((count, disks), np.float64)
    _core.measure_shapes(
        masks.view(np.uint8),
        get_args(Mode).index(mode),
        measures,
        chords,
        diameters,
        checks.threads(threads),
    )
    column = np.ascontiguousarray(measures.T)
    return Shapes(
        areas=column[0],
        convex_areas=column[1],
        eccentricity=column[2],
        centroids=measures[:, 3:5].copy(),
        major_axes=column[5],
        minor_axes=column[6],
        orientations=column[7],
        ends=measures[:, 8:12].reshape(count, 2, 2),
        lengths=column[12],
        chords=chords.reshape(count, disks, 2, 2),
        diameters=diameters,
        pieces=column[13].astype(np.int64),
    )
