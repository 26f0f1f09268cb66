"""Hierarchies of regions by merging: small segments of one colour, joined in order of likeness."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import color, segmentation

SEGMENT_SCALE = 30.0
"""Scale of the first segments (Felzenszwalb and Huttenlocher 2004): larger ones are larger."""

SMALLEST_SEGMENT = 24
"""Least pixels of a segment."""

SIZE_POWER = 0.3
"""Power of a pair's common size in its distance: small regions merge first."""

EDGE_FLOOR = 2.0
"""Colour distance that every border counts for, so that weak borders do not merge all."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """N segments of an image and the N - 1 regions that merging made of them."""

    segments: NDArray[np.int64]
    """``(height, width)``: number of each pixel's segment, below N."""

    parents: NDArray[np.int64]
    """``(2 N - 1,)``: the region that a region was merged into; that of the last is itself."""

    births: NDArray[np.float64]
    """``(2 N - 1,)``: distance of the two regions that a region was merged from; 0 for segments."""

    @property
    def lifetimes(self) -> NDArray[np.float64]:
        """``(2 N - 1,)``: distance to what a region merges with, over that of its own parts.

        Its logarithm; a region that stays as it is for long differs from all around it.
        """
        floor = np.maximum(self.births, 1.0)
        alive = np.log(np.maximum(self.births[self.parents], 1.0) / floor)
        alive[-1] = 0.0
        return np.asarray(alive)

    def ancestors(self) -> NDArray[np.bool_]:
        """Return (2 N - 1, N): True where a segment lies in a region."""
        count = (len(self.parents) + 1) // 2
        contains = np.zeros((len(self.parents), count), dtype=bool)
        contains[np.arange(count), np.arange(count)] = True
        for region in range(len(self.parents) - 1):  # parts come before what they are merged into
            contains[self.parents[region]] |= contains[region]
        return contains


def merge(image: NDArray[np.uint8], scale: float = SEGMENT_SCALE) -> Hierarchy:
    """Build the hierarchy of an image uint8 (height, width, 3).

    The distance of two neighbours is that of their mean colours and spreads in CIE Lab, weighted
    by the gradient along their border and by their common size.

    Args:
        image: RGB; a few hundred pixels wide.
        scale: Scale of the first segments.
    """
    lab = color.rgb2lab(image).astype(np.float64)
    found = segmentation.felzenszwalb(image, scale, sigma=0.7, min_size=SMALLEST_SEGMENT)
    segments = np.asarray(found, dtype=np.int64)
    return _Merging(segments, lab).run()


Border = tuple[float, float]
"""Sum of the gradient along the border of two regions, and its length in pixels."""


class _Merging:
    """Greedy merging of neighbours, nearest first."""

    def __init__(self, segments: NDArray[np.int64], lab: NDArray[np.float64]) -> None:
        self.segments = segments
        flat, self.count = segments.ravel(), int(segments.max()) + 1
        total = 2 * self.count - 1
        moments = np.zeros((total, 7))  # pixels, sums of three channels, sums of their squares
        moments[: self.count, 0] = np.bincount(flat, minlength=self.count)
        for channel in range(3):
            values = lab[..., channel].ravel()
            moments[: self.count, 1 + channel] = np.bincount(flat, values, self.count)
            moments[: self.count, 4 + channel] = np.bincount(flat, values**2, self.count)
        self.moments = moments
        self.parents, self.births = np.arange(total), np.zeros(total)
        self.colours = [self._colour(k) for k in range(self.count)]
        self.borders = self._measure_borders(lab)

    def _colour(self, region: int) -> tuple[float, list[float], list[float]]:
        """Return the pixels of a region, its mean colour and half of the colours' deviation."""
        size = self.moments[region, 0]
        mean = self.moments[region, 1:4] / size
        spread = np.sqrt(np.maximum(self.moments[region, 4:] / size - mean**2, 0)) / 2
        return float(size), mean.tolist(), spread.tolist()

    def _measure_borders(self, lab: NDArray[np.float64]) -> list[dict[int, Border]]:
        """Return the neighbours of every segment with their common borders."""
        smooth = ndimage.gaussian_filter(lab, (1, 1, 0))
        pairs, steps = [], []
        for axis in (0, 1):
            ahead = np.abs(np.diff(smooth, axis=axis)).sum(axis=2) * 2
            sides = [np.delete(self.segments, place, axis=axis) for place in (-1, 0)]
            apart = sides[0] != sides[1]
            low, high = np.minimum(*sides)[apart], np.maximum(*sides)[apart]
            pairs.append(low * self.count + high)
            steps.append(ahead[apart])
        found, where = np.unique(np.concatenate(pairs), return_inverse=True)
        sums = np.bincount(where, np.concatenate(steps), len(found))
        lengths = np.bincount(where, minlength=len(found))
        borders: list[dict[int, Border]] = [{} for _ in range(self.count)]
        for pair, summed, length in zip(
            found.tolist(), sums.tolist(), lengths.tolist(), strict=True
        ):
            a, b = divmod(pair, self.count)
            borders[a][b] = borders[b][a] = (summed, length)
        return borders

    def _distance(self, a: int, b: int) -> float:
        size_a, mean_a, spread_a = self.colours[a]
        size_b, mean_b, spread_b = self.colours[b]
        colour = math.dist(mean_a, mean_b) + math.dist(spread_a, spread_b)
        summed, length = self.borders[a][b]
        edge = EDGE_FLOOR + summed / length
        common = size_a * size_b / (size_a + size_b)
        return math.sqrt((colour + 1) * edge) * common**SIZE_POWER

    def run(self) -> Hierarchy:
        """Merge until one region is left."""
        alive = set(range(self.count))
        queue = [(self._distance(a, b), a, b) for a in alive for b in self.borders[a] if a < b]
        heapq.heapify(queue)
        made, level = self.count, 0.0
        while queue:
            distance, a, b = heapq.heappop(queue)
            if a not in alive or b not in alive:
                continue
            level = max(level, distance)
            self._join(a, b, made, level)
            alive -= {a, b}
            alive.add(made)
            for neighbour in self.borders[made]:
                heapq.heappush(queue, (self._distance(made, neighbour), neighbour, made))
            made += 1
        return Hierarchy(self.segments, self.parents, self.births)

    def _join(self, a: int, b: int, made: int, level: float) -> None:
        self.moments[made] = self.moments[a] + self.moments[b]
        self.colours.append(self._colour(made))
        self.parents[[a, b]], self.births[made] = made, level
        joined: dict[int, Border] = {}
        for part, other in ((a, b), (b, a)):
            for neighbour, (summed, length) in self.borders[part].items():
                if neighbour == other:
                    continue
                before = joined.get(neighbour, (0.0, 0.0))
                joined[neighbour] = (before[0] + summed, before[1] + length)
                del self.borders[neighbour][part]
        for neighbour, border in joined.items():
            self.borders[neighbour][made] = border
        self.borders.append(joined)
        self.borders[a], self.borders[b] = {}, {}
