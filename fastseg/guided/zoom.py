"""The part of an image that an iterative-mask network looks at, once a mask is known.

The rules are those of the predictor of RITM (Sofiiuk et al., arXiv 2102.06583).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.guidance import ZoomRules
from fastseg.contract import LABEL_FOREGROUND
from fastseg.guided.resizing import resize_corners

Mask = NDArray[np.bool_]


class Region(NamedTuple):
    """Rows and columns of an image, both ends included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top + 1, self.right - self.left + 1

    def cut(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the region of maps (n, height, width)."""
        return maps[:, self.top : self.bottom + 1, self.left : self.right + 1]

    def holds(self, point: NDArray[np.float64]) -> bool:
        """Tell whether a point lies inside; its last row and column count as outside."""
        x, y = point
        return bool(self.top <= y < self.bottom and self.left <= x < self.right)

    def overlap(self, other: Region) -> float:
        """Multiply the IoU of the rows by that of the columns."""
        rows = _overlap((self.top, self.bottom), (other.top, other.bottom))
        return rows * _overlap((self.left, self.right), (other.left, other.right))

    def resized(self, side: int) -> tuple[int, int]:
        """Return the height and width of the region with its longest side resized to ``side``."""
        height, width = self.size
        scale = side / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def to_input(self, points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
        """Map points (n, 2), x before y, from the image into the region resized to ``size``."""
        (height, width), (new_height, new_width) = self.size, size
        scale = np.array([new_width / width, new_height / height])
        mapped: NDArray[np.float64] = (points - [self.left, self.top]) * scale
        return mapped

    def paste(self, part: NDArray[np.float32], image: tuple[int, int]) -> NDArray[np.float32]:
        """Resize a map (h, w) to the region and put it into zeros of the image's size."""
        whole = np.zeros(image, np.float32)
        self.cut(whole[None])[0] = resize_corners(part[None], self.size)[0]
        return whole


def choose_region(
    probabilities: NDArray[np.float32] | None,
    points: NDArray[np.float64],
    labels: NDArray[np.int32],
    before: Region | None,
    rules: ZoomRules,
) -> Region | None:
    """Choose the region for the next run of the network.

    Args:
        probabilities: (height, width) of the last mask, or None before the first.
        points: (n, 2) all points of the prompt, x before y in pixels of the image.
        labels: (n,) 1 foreground, 0 background.
        before: The region of the run before.
        rules: Of the model.

    Returns:
        None for the whole image: too few points, or no pixel in the mask. The region of the run
        before, unless a foreground point left it or the mask has outgrown it.
    """
    if len(points) < rules.points or probabilities is None:
        return None
    mask = probabilities > rules.above
    if not mask.any():
        return None
    foreground = points[labels == LABEL_FOREGROUND]
    wanted = region_of(mask, foreground, rules)
    if before is None or not all(before.holds(point) for point in foreground):
        return wanted
    return wanted if wanted.overlap(before) < rules.kept_iou else before


def region_of(mask: Mask, foreground: NDArray[np.float64], rules: ZoomRules) -> Region:
    """Place the box around a mask and foreground points, expanded, inside the image.

    Args:
        mask: bool (height, width), not empty.
        foreground: (n, 2) x before y.
        rules: Of the model.
    """
    height, width = mask.shape
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    pixels = np.minimum(foreground.astype(np.int64), [width - 1, height - 1])
    x, y = np.append(columns, pixels[:, 0]), np.append(rows, pixels[:, 1])
    top, bottom = _expanded(int(y.min()), int(y.max()), rules, height)
    left, right = _expanded(int(x.min()), int(x.max()), rules, width)
    return Region(top, bottom, left, right)


def _expanded(first: int, last: int, rules: ZoomRules, length: int) -> tuple[int, int]:
    """Expand an interval about its middle, and clamp it to 0..length - 1."""
    middle = (first + last) / 2
    half = max(rules.expansion * (last - first + 1), rules.least) / 2
    return max(round(middle - half), 0), min(round(middle + half), length - 1)


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Return the IoU of two intervals of pixels."""
    both = min(one[1], other[1]) - max(one[0], other[0]) + 1
    return max(both, 0) / (max(one[1], other[1]) - min(one[0], other[0]) + 1)
