"""Masks of given pixels, for tests of operations on masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.masks import Masks
from fastseg.timings import Timings

TIMINGS = Timings(
    preprocess=1.0, encode=2.0, decode=3.0, postprocess=4.0, n_masks=2, backend="drawn"
)


def rectangles(size: tuple[int, int], boxes: Sequence[tuple[int, int, int, int]]) -> Masks:
    """Fill boxes, x0 y0 x1 y1 inclusive, in an image of (height, width)."""
    pixels = np.zeros((len(boxes), *size), np.bool_)
    for mask, (x0, y0, x1, y1) in zip(pixels, boxes, strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return drawn(pixels)


def drawn(pixels: NDArray[np.bool_]) -> Masks:
    """Make masks of pixels, bool (n, H, W)."""
    runs = ops.rle_from_array(pixels)
    return Masks(
        runs=runs,
        scores=np.linspace(0.9, 0.8, len(pixels), dtype=np.float32),
        stability=np.ones(len(pixels), np.float32),
        boxes=ops.rle_boxes(runs),
        areas=ops.rle_areas(runs),
        prompt=np.arange(len(pixels)),
        timings=TIMINGS,
    )
