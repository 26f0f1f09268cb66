"""Agreement of two masks in one number: IoU, Dice, distances of their outlines, clicks needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.errors import MaskError

Mask = NDArray[np.bool_]


def iou(found: Mask, truth: Mask) -> float:
    """Divide the common pixels of two masks by the pixels of either; NaN where both are empty."""
    _check(found, truth)
    either = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / either if either else math.nan


def dice(found: Mask, truth: Mask) -> float:
    """Divide twice the common pixels of two masks by the sum of their pixels.

    NaN where both are empty. Of one pair it is 2 IoU / (1 + IoU), which does not hold for means.
    """
    _check(found, truth)
    total = np.count_nonzero(found) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(found & truth) / total if total else math.nan


def points_needed(ious: Sequence[float], target: float, *, most: int | None = None) -> int:
    """Count the points until an IoU was reached (number of clicks, NoC).

    Args:
        ious: IoU after 1, 2, ... points.
        target: IoU to reach, 0..1.
        most: Number for an object that never reaches it; None is ``len(ious)``.
    """
    reached = [number for number, value in enumerate(ious, start=1) if value >= target]
    return reached[0] if reached else (len(ious) if most is None else most)


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances between the outlines of two masks, each with the length of outline it stands for.

    Outlines run between the middles of pixels, as in the surface distances that MedSAM is scored
    with (Nikolov et al. 2018, arXiv 1809.04430): where two by two pixels differ lies a piece of
    outline of one of three lengths, and distances are measured between such places.
    """

    found: NDArray[np.float64]
    """From each piece of the found outline to the truth's, rising; infinite if that is empty."""

    found_lengths: NDArray[np.float64]
    truth: NDArray[np.float64]
    """From each piece of the truth's outline to the found one, rising."""

    truth_lengths: NDArray[np.float64]

    def hausdorff(self, percent: float = 95) -> float:
        """Return the distance that a percentage of each outline keeps within (HD95).

        NaN where both masks are empty, infinite where one is.
        """
        sides = ((self.found, self.found_lengths), (self.truth, self.truth_lengths))
        reached = [_percentile(*side, percent) for side in sides if len(side[0])]
        return max(reached, default=math.nan)

    def dice(self, tolerance: float) -> float:
        """Return the share of both outlines within a tolerance (surface Dice, NSD).

        NaN where both masks are empty, 0 where one is.
        """
        total = self.found_lengths.sum() + self.truth_lengths.sum()
        if not total:
            return math.nan
        near = self.found_lengths[self.found <= tolerance].sum()
        near += self.truth_lengths[self.truth <= tolerance].sum()
        return float(near / total)


def surface_distances(
    found: Mask, truth: Mask, *, spacing: tuple[float, float] = (1.0, 1.0)
) -> SurfaceDistances:
    """Measure the distances between the outlines of two masks.

    Args:
        found: (H, W) bool.
        truth: (H, W) bool.
        spacing: Height and width of a pixel, in the unit that the distances get.

    Raises:
        MaskError: The masks are of different shapes.
    """
    _check(found, truth)
    rows = np.flatnonzero((found | truth).any(axis=1))
    columns = np.flatnonzero((found | truth).any(axis=0))
    if not len(rows):
        nothing = np.zeros(0)
        return SurfaceDistances(nothing, nothing, nothing, nothing)
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    lengths = [_outline_lengths(mask[part], spacing) for mask in (found, truth)]
    away = [_distances_to(length > 0, spacing) for length in lengths]
    sides = []
    for length, distance in ((lengths[0], away[1]), (lengths[1], away[0])):
        there = length > 0
        order = np.argsort(distance[there], kind="stable")
        sides += [distance[there][order], length[there][order]]
    return SurfaceDistances(*sides)


def _check(found: Mask, truth: Mask) -> None:
    if found.shape != truth.shape or found.dtype != np.bool_ or truth.dtype != np.bool_:
        raise MaskError(
            f"masks to compare must be bool and of one size, not {found.dtype} {found.shape} and "
            f"{truth.dtype} {truth.shape}."
        )


def _outline_lengths(mask: Mask, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Measure the outline inside of every two by two pixels: (H + 1, W + 1)."""
    padded = np.pad(mask, 1).astype(np.intp)
    code = 8 * padded[:-1, :-1] + 4 * padded[:-1, 1:] + 2 * padded[1:, :-1] + padded[1:, 1:]
    down, across = spacing
    corner = 0.5 * math.hypot(down, across)
    table = np.full(16, corner)
    table[[0, 15]] = 0
    table[[3, 12]] = across  # the upper pair or the lower one: the outline runs along a row
    table[[5, 10]] = down
    table[[6, 9]] = 2 * corner  # two corners that touch
    lengths: NDArray[np.float64] = table[code]
    return lengths


def _distances_to(places: Mask, spacing: tuple[float, float]) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = ops.distance_transform(~places[None], spacing=spacing)[0]
    return distances


def _percentile(
    distances: NDArray[np.float64], lengths: NDArray[np.float64], percent: float
) -> float:
    """Return the smallest distance within which a percentage of the outline lies."""
    reached = np.cumsum(lengths) / lengths.sum()
    place = int(np.searchsorted(reached, percent / 100))
    return float(distances[min(place, len(distances) - 1)])
