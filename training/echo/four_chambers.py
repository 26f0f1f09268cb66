"""Weak labels of apical four-chamber frames, from a network that knows two chambers.

It finds atria and ventricles on both sides of the heart and does not tell the sides apart; their
positions do. Steps and numbers: Ferreira et al., Nat Commun 16, 4070 (2025).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fastseg import ops

Mask = NDArray[np.bool_]

SHORT = 0.8
"""Share of the left ventricle's length below which the right one has lost its apex."""

LA, LV, RA, RV = 1, 2, 3, 4
"""Indices of the chambers in a label; 0 is their union."""


def split_sides(two: Mask) -> Mask | None:
    """Tell left from right heart: in the image the left one lies at the right.

    Args:
        two: bool (3, h, w), union, atria and ventricles of both sides.

    Returns:
        bool (5, h, w): union, LA, LV, RA, RV, cleaned as the networks' output is; None if there
        are not two atria and two ventricles.
    """
    four = np.zeros((5, *two.shape[1:]), dtype=bool)
    for of_both, left, right in ((two[1], LA, RA), (two[2], LV, RV)):
        sides = _two_largest(of_both)
        if sides is None:
            return None
        four[right], four[left] = sides
    four[0] = four[1:].any(axis=0)
    cleaned: Mask = ops.clean_chambers(four[None].astype(np.float32), exclusive=True, threads=1)[0]
    return cleaned


def _two_largest(mask: Mask) -> tuple[Mask, Mask] | None:
    """Find the two largest 8-connected pieces, the one further left first."""
    numbered, count = ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return None
    sizes = np.bincount(numbered.ravel())[1:]
    # Stable, so that of equal pieces the first one counts.
    chosen = [numbered == 1 + index for index in np.argsort(-sizes, kind="stable")[:2]]
    one, other = sorted(chosen, key=lambda piece: float(np.argwhere(piece)[:, 1].mean()))
    return one, other


def stretch_right_ventricle(four: Mask) -> Mask:
    """Lengthen a right ventricle that is short beside the left one towards the apex.

    At ``ratio`` of the left one's length, below ``SHORT``, the rows of its bounding box are
    repeated to ``1 + ratio`` times their number; the lowest row stays where it is.

    Args:
        four: bool (5, h, w), union, LA, LV, RA, RV, all but RA not empty.

    Returns:
        The same with another RV. The union is as it was, as published.
    """
    lengths = ops.measure_shapes(four[[LV, RV]], "source", threads=1).lengths
    ratio = float(lengths[1] / lengths[0]) if lengths[0] else np.inf
    if not ratio < SHORT:
        return four
    rows = np.flatnonzero(four[RV].any(axis=1))
    top, below = int(rows[0]), int(rows[-1]) + 1
    height = below - top
    wanted = int(height * (1 + ratio))
    longer = four[RV, top:below][np.arange(wanted) * height // wanted]
    stretched = four.copy()
    reach = min(wanted, below)
    stretched[RV, :below] = False
    stretched[RV, below - reach : below] = longer[wanted - reach :]
    return stretched
