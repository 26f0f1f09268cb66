"""References for measures of masks: integer moments, scikit-image's lines, square pixels."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import skimage.draw
import skimage.morphology

NOWHERE = (np.nan, np.nan), (np.nan, np.nan), np.nan


@dataclass
class Shape:
    """Measure one mask; lines are (begin, end, length)."""

    area: int
    convex_area: int
    pieces: int
    centroid: tuple
    major: float
    minor: float
    eccentricity: float
    angle: float
    axis: tuple
    chords: list


def components(mask):
    labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
    return [labels == index + 1 for index in range(count)]


def convex_area(mask):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(skimage.morphology.convex_hull_image(mask).sum())


def moments(mask):
    """Return centroid, axes, eccentricity and angle, from integer sums of any size."""
    rows, columns = (values.tolist() for values in np.nonzero(mask))
    n, r, c = len(rows), sum(rows), sum(columns)

    def covariance(a, b):
        return float(n * sum(x * y for x, y in zip(a, b, strict=True)) - sum(a) * sum(b)) / (n * n)

    down, across, both = covariance(rows, rows), covariance(columns, columns), covariance(
        rows, columns
    )  # fmt: skip
    half = (down - across) / 2
    spread = math.sqrt(half * half + both * both)
    largest, smallest = (down + across) / 2 + spread, max(0.0, (down + across) / 2 - spread)
    eccentricity = math.sqrt(1 - smallest / largest) if largest else 0.0
    angle = 0.5 * math.atan2(2 * both, down - across)
    if down == across:
        angle = math.pi / 4 if both > 0 else -math.pi / 4
    return (r / n, c / n), 4 * math.sqrt(largest), 4 * math.sqrt(smallest), eccentricity, angle


def drawn_line(mask, begin, end):
    """Return the mask's pixels on an anti-aliased line, in raster order."""
    rows, columns, cover = skimage.draw.line_aa(*begin, *end)
    height, width = mask.shape
    inside = (cover > 0) & (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    met = {
        (r, c)
        for r, c in zip(rows[inside].tolist(), columns[inside].tolist(), strict=True)
        if mask[r, c]
    }
    return sorted(met)


def between(a, b):
    return a, b, math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2)


def source_disks(mask, centroid, major, angle, disks):
    if abs(angle) > 0.7:
        angle = math.copysign(0.45, angle)
    cosine, sine = math.cos(angle), math.sin(angle)
    (row, column), down, across = centroid, 0.6 * major * cosine, 0.6 * major * sine
    ends = (int(row - down), int(column - across)), (int(row + down), int(column + across))
    met = drawn_line(mask, *ends)
    if not met:
        return NOWHERE, [NOWHERE] * disks
    axis = top, _, length = between(met[0], met[-1])
    half = mask.shape[1] / 2
    left = int(top[0] + sine * half), int(top[1] - cosine * half)
    right = int(top[0] - sine * half), int(top[1] + cosine * half)
    height = length / disks
    chords = []
    for k in range(1, disks + 1):
        shift = k * height / cosine
        met = drawn_line(
            mask,
            (int(left[0] + shift), int(left[1] + height)),
            (int(right[0] + shift), int(right[1] + height)),
        )
        columns = [c for _, c in met]
        chords.append(
            between(met[columns.index(min(columns))], met[columns.index(max(columns))])
            if met
            else NOWHERE
        )
    return axis, chords


def stretch(low, high, origin, slope):
    """Return the part of a line between two borders, for every pixel."""
    if slope == 0:
        inside = (low <= origin) & (origin <= high)
        return np.where(inside, -np.inf, np.inf), np.where(inside, np.inf, -np.inf)
    a, b = (low - origin) / slope, (high - origin) / slope
    return np.minimum(a, b), np.maximum(a, b)


def crossed(mask, origin, direction):
    """Cut a line from the first entry into a pixel's square to the last exit."""
    rows, columns = np.nonzero(mask)
    first, last = stretch(rows - 0.5, rows + 0.5, origin[0], direction[0])
    left, right = stretch(columns - 0.5, columns + 0.5, origin[1], direction[1])
    first, last = np.maximum(first, left), np.minimum(last, right)
    met = first <= last
    if not met.any():
        return NOWHERE
    first, last = float(first[met].min()), float(last[met].max())
    begin, end = (
        (origin[0] + far * direction[0], origin[1] + far * direction[1]) for far in (first, last)
    )
    return begin, end, last - first


def exact_disks(mask, centroid, angle, disks):
    down = tuple(0.0 if abs(part) < 1e-12 else part for part in (math.cos(angle), math.sin(angle)))
    axis = top, _, length = crossed(mask, centroid, down)
    height = length / disks
    chords = []
    for k in range(disks):
        far = (k + 0.5) * height
        middle = top[0] + far * down[0], top[1] + far * down[1]
        chords.append(crossed(mask, middle, (-down[1], down[0])))
    return axis, chords


def upright(angle):
    """Return values up to 0.7 unchanged; beyond, fall linearly to 0 at a right angle."""
    lean = abs(angle)
    if lean > 0.7:
        lean = 0.7 * (np.pi / 2 - lean) / (np.pi / 2 - 0.7)
    return float(np.copysign(lean, angle))


def measure(mask, mode, disks=21):
    pieces = components(mask)
    if not pieces:
        nan = np.nan
        return Shape(0, nan, 0, (nan, nan), nan, nan, nan, nan, NOWHERE, [NOWHERE] * disks)
    chosen = pieces[0] if mode == "source" else max(pieces, key=np.count_nonzero)
    centroid, major, minor, eccentricity, angle = moments(chosen)
    if mode == "upright":
        angle = upright(angle)
    if mode == "source":
        axis, chords = source_disks(mask, centroid, major, angle, disks)
    else:
        axis, chords = exact_disks(chosen, centroid, angle, disks)
    return Shape(
        int(mask.sum()), convex_area(mask), len(pieces),
        centroid, major, minor, eccentricity, angle, axis, chords,
    )  # fmt: skip
