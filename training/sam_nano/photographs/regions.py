"""Weak labels of photographs: regions that stay the same when the photograph is changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from training.sam_nano import evaluation
from training.sam_nano.photographs import hierarchy
from training.sam_nano.photographs.hierarchy import Hierarchy

WORKING_SIDE = 320
"""Longer side in pixels of the image that is taken apart; smaller ones stay as they are."""

CHANGES = 4
"""Changed versions of the image whose regions are compared."""

AGREEING = 3
"""Versions in which a region must be found again."""

AGREEING_IOU = 0.8
"""Overlap from which on a region counts as found again."""

AREAS = (0.0008, 0.6)
"""Least and largest share of the image of a region."""

LEAST_LIFETIME = 0.12
"""Least logarithm of a region's lifetime (``Hierarchy.lifetimes``)."""

RAGGEDNESS_REACH = 2.5
SMOOTH_IOU = 0.8
"""Deviation in pixels of the blur that a region must survive, and its least overlap."""

DISTINCT_IOU = 0.85
"""Nested regions that overlap more are the same; the one that lives longer stays."""


@dataclass(frozen=True, slots=True)
class Regions:
    """N nested regions of an image, the larger ones first."""

    labels: NDArray[np.int16]
    """``(height, width)``: the smallest region of each pixel, from 1 on; 0 where there is none."""

    wholes: NDArray[np.int16]
    """``(N + 1,)``: the region that encloses a region, or its own number."""


def find(random: np.random.Generator, image: NDArray[np.uint8]) -> Regions:
    """Find the regions of an image uint8 (height, width, 3) that agree across its changes."""
    height, width = image.shape[:2]
    shrink = min(1.0, WORKING_SIDE / max(height, width))
    size = (max(16, round(width * shrink)), max(16, round(height * shrink)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    regions = _candidates(hierarchy.merge(np.asarray(small)), size)
    votes = np.zeros(len(regions.contains), dtype=int)
    for _ in range(CHANGES):
        changed, scale = _change(random, small)
        others = _candidates(hierarchy.merge(changed, scale), size)
        votes += _overlaps(regions, others).max(axis=1, initial=0) >= AGREEING_IOU
    agreeing = regions.select(np.flatnonzero(votes >= AGREEING))
    kept = agreeing.select(_distinct(agreeing))
    masks = kept.contains[:, kept.segments]
    return nest(masks[[_is_smooth(mask) for mask in masks]], (height, width))


@dataclass(frozen=True, slots=True)
class _Candidates:
    """M regions made of the S segments of an image."""

    segments: NDArray[np.int64]
    """``(height, width)``."""
    contains: NDArray[np.bool_]
    """``(M, S)``: the segments of each region."""
    lifetimes: NDArray[np.float64]
    """``(M,)``."""

    def select(self, rows: NDArray[np.int64]) -> _Candidates:
        return _Candidates(self.segments, self.contains[rows], self.lifetimes[rows])


def _candidates(found: Hierarchy, size: tuple[int, int]) -> _Candidates:
    """Return the regions of allowed size that live long enough, at ``size`` (width, height)."""
    contains, lifetimes = found.ancestors(), found.lifetimes
    areas = contains @ np.bincount(found.segments.ravel()) / found.segments.size
    fits = (areas > AREAS[0]) & (areas < AREAS[1]) & (lifetimes > LEAST_LIFETIME)
    plane = Image.fromarray(found.segments.astype(np.int32))
    segments = np.asarray(plane.resize(size, Image.Resampling.NEAREST)).astype(np.int64)
    return _Candidates(segments, contains[fits], lifetimes[fits])


def _change(random: np.random.Generator, image: Image.Image) -> tuple[NDArray[np.uint8], float]:
    """Draw a version of another size, sharpness, colour and noise; and a scale of segments."""
    factor = random.uniform(0.7, 1.15)
    size = tuple(max(16, round(side * factor)) for side in image.size)
    changed = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    changed = changed.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))
    colours = np.asarray(changed, dtype=np.float32) / 255
    colours = colours ** random.uniform(0.75, 1.35) * random.uniform(0.85, 1.1, 3)
    colours = colours + random.normal(0, random.uniform(0, 0.02), colours.shape)
    scale = hierarchy.SEGMENT_SCALE * float(np.exp(random.uniform(-0.5, 0.5)))
    return (np.clip(colours, 0, 1) * 255).astype(np.uint8), scale


def _overlaps(one: _Candidates, other: _Candidates) -> NDArray[np.float64]:
    """Return the IoU (N, M) of regions, counted by the segments that they share."""
    rows, columns = one.contains.shape[1], other.contains.shape[1]
    pairs = np.bincount((one.segments * columns + other.segments).ravel(), minlength=rows * columns)
    common = pairs.reshape(rows, columns).astype(np.float32)
    both = one.contains.astype(np.float32) @ common @ other.contains.T.astype(np.float32)
    areas = one.contains @ common.sum(axis=1), other.contains @ common.sum(axis=0)
    union = areas[0][:, None] + areas[1] - both
    return np.asarray(both / np.maximum(union, 1), dtype=np.float64)


def _distinct(found: _Candidates) -> NDArray[np.int64]:
    """Return the rows of regions that differ enough, those that live longer before others."""
    same = _overlaps(found, found) > DISTINCT_IOU
    kept: list[int] = []
    for row in np.argsort(-found.lifetimes).tolist():
        if not same[row, kept].any():
            kept.append(row)
    return np.array(sorted(kept), dtype=np.int64)


def _is_smooth(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a blurred outline is still that of the mask: ragged patches are no objects."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), RAGGEDNESS_REACH) > 0.5
    both, either = np.count_nonzero(soft & mask), np.count_nonzero(soft | mask)
    return both > SMOOTH_IOU * either


def nest(masks: NDArray[np.bool_], size: tuple[int, int]) -> Regions:
    """Label nested masks bool (N, h, w) from the largest on, at ``size`` (height, width).

    Whatever a region encloses is a part of it; of two that are the same then, the first stays.
    """
    if len(masks):
        masks = np.stack([ndimage.binary_fill_holes(mask) for mask in masks])
        halves = masks[:, ::2, ::2]
        same = np.tril(evaluation.overlaps(halves, halves) > DISTINCT_IOU, -1)
        masks = masks[~same.any(axis=1)]
    order = np.argsort(-masks.sum(axis=(1, 2)), kind="stable")
    labels = np.zeros(masks.shape[1:], dtype=np.int16)
    wholes = [0]
    for number, mask in enumerate(masks[order], 1):
        under = labels[mask]
        wholes.append(int(np.bincount(under).argmax()) or number)
        labels[mask] = number
    plane = Image.fromarray(labels.astype(np.int32))
    large = plane.resize(size[::-1], Image.Resampling.NEAREST)
    return Regions(np.asarray(large).astype(np.int16), np.array(wholes, dtype=np.int16))


def levels(found: Regions) -> NDArray[np.int16]:
    """Return (depth, height, width): the regions of each pixel, the smallest one first."""
    planes = [found.labels]
    while True:
        outer = found.wholes[planes[-1]]
        if np.array_equal(outer, planes[-1]):
            return np.stack(planes)
        planes.append(outer)
