"""Prompts made from truth, as the studies make them: deepest points, boxes, centroids."""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.ops import Metric

Mask: TypeAlias = NDArray[np.bool_]
Box: TypeAlias = tuple[float, float, float, float]
Point: TypeAlias = tuple[float, float]
Rounding: TypeAlias = Literal["nearest", "floor", "float"]


def seeded(seed: int, *names: object) -> np.random.Generator:
    """Make random numbers that depend on a seed and on names alone, in no order of work."""
    text = "\0".join(map(str, (seed, *names)))
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16], "big")
    )


def deepest_point(
    mask: Mask, random: np.random.Generator, *, metric: Metric = "chamfer"
) -> tuple[int, int]:
    """Choose a pixel that is farthest from the outside of a mask.

    The edge of the image is outside too. Of several such pixels one is drawn at random; of a mask
    without pixels all are equally deep. Source: Mazurowski et al., arXiv 2304.10517, algorithm 1.

    Returns:
        x and y.
    """
    places = _deepest(mask, metric)
    y, x = places[random.integers(len(places))].tolist()
    return x, y


def _deepest(mask: Mask, metric: Metric) -> NDArray[np.intp]:
    """List the deepest pixels (n, 2), row before column, in raster order."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.stack(np.unravel_index(np.arange(mask.size), mask.shape), axis=1)
    top, left = rows[0], columns[0]
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    depth = ops.distance_transform(np.pad(part, 1)[None], metric=metric)[0, 1:-1, 1:-1]
    places: NDArray[np.intp] = np.argwhere(depth == depth.max()) + np.array([top, left])
    return places


def tight_box(mask: Mask, margin: float = 0) -> Box:
    """Enclose a mask that is not empty: its outermost pixels, moved outwards by a margin.

    Returns:
        x0, y0, x1, y1; the corners are pixels of the mask where the margin is 0. A margin does not
        leave the image.
    """
    height, width = mask.shape
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        max(float(columns[0]) - margin, 0.0),
        max(float(rows[0]) - margin, 0.0),
        min(float(columns[-1]) + margin, float(width - 1)),
        min(float(rows[-1]) + margin, float(height - 1)),
    )


def ellipse_in(box: Box, size: tuple[int, int]) -> Mask:
    """Fill the ellipse that touches the four sides of a box: what the box alone tells.

    A pixel belongs to it if its middle does; the box reaches from edge to edge of its corner
    pixels.
    """
    x0, y0, x1, y1 = box
    rows, columns = np.ogrid[: size[0], : size[1]]
    across = (columns - (x0 + x1) / 2) / ((x1 - x0 + 1) / 2)
    down = (rows - (y0 + y1) / 2) / ((y1 - y0 + 1) / 2)
    inside: Mask = across**2 + down**2 <= 1
    return inside


def centroid(mask: Mask, *, rounding: Rounding = "nearest") -> Point:
    """Average the pixels of a mask; the point may lie outside of it, and is used as it is.

    Returns:
        x and y: ``"nearest"`` whole numbers (halves to even), ``"floor"``, or ``"float"``.
    """
    rows, columns = np.nonzero(mask)
    x, y = float(columns.mean()), float(rows.mean())
    if rounding == "nearest":
        return float(round(x)), float(round(y))
    if rounding == "floor":
        return float(x // 1), float(y // 1)
    return x, y


def components(mask: Mask) -> list[Mask]:
    """Split a mask into its 8-connected components, the largest first; of equal ones the upper."""
    labels, counts = ops.label_components(mask[None])
    areas = np.bincount(labels.ravel(), minlength=int(counts[0]) + 1)[1:]
    order = np.argsort(-areas, kind="stable") + 1
    return [labels[0] == number for number in order]


def random_points(mask: Mask, count: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Draw pixels of a mask, each at most once; fewer points are the first of more.

    Returns:
        x and y of ``count`` pixels, or of all if the mask has fewer.
    """
    places = np.argwhere(mask)
    chosen = random.permutation(len(places))[:count]
    return [(int(x), int(y)) for y, x in places[chosen]]
