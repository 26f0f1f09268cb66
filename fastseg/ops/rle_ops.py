"""Operations on run lengths; malformed ones raise ``MaskError``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import MaskError, PromptError
from fastseg.ops import checks
from fastseg.ops.rle import Rle, mask_size


def rle_check(rle: Rle) -> None:
    """Check that every mask's run lengths sum to height times width."""
    with checks.mask_errors():
        _core.rle_check(rle.counts, rle.offsets, rle.size)


def rle_areas(rle: Rle) -> NDArray[np.int64]:
    """Count the pixels of every mask, ``(n,)``."""
    out = np.empty(len(rle), np.int64)
    with checks.mask_errors():
        _core.rle_areas(rle.counts, rle.offsets, rle.size, out)
    return out


def rle_boxes(rle: Rle) -> NDArray[np.int64]:
    """Find the outermost pixels of every mask: ``(n, 4)`` x0, y0, x1, y1; zeros if it is empty."""
    out = np.empty((len(rle), 4), np.int64)
    with checks.mask_errors():
        _core.rle_boxes(rle.counts, rle.offsets, rle.size, out)
    return out


def rle_to_array(rle: Rle, *, threads: int = 0) -> NDArray[np.bool_]:
    """Decode every mask: ``(n, height, width)`` bool."""
    out = np.empty((len(rle), *rle.size), np.bool_)
    with checks.mask_errors():
        _core.rle_to_array(rle.counts, rle.offsets, out.view(np.uint8), checks.threads(threads))
    return out


def rle_from_array(masks: NDArray[np.bool_], *, threads: int = 0) -> Rle:
    """Encode ``(n, height, width)`` bool masks.

    Raises:
        MaskError: the array is not of that shape and dtype.
    """
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.dtype != np.bool_:
        raise MaskError(f"masks must be (n, height, width) bool, not {masks.shape} {masks.dtype}")
    size = mask_size((masks.shape[1], masks.shape[2]))
    offsets = np.zeros(len(masks) + 1, np.int64)
    masks = np.ascontiguousarray(masks)
    counts = _core.rle_from_array(masks.view(np.uint8), offsets, checks.threads(threads))
    return Rle(counts, offsets, size)


def rle_to_strings(rle: Rle) -> list[bytes]:
    """Write COCO's compressed run-length strings, as pycocotools does."""
    offsets = np.zeros(len(rle) + 1, np.int64)
    with checks.mask_errors():
        text = _core.rle_to_strings(rle.counts, rle.offsets, rle.size, offsets)
    return [text[begin:end] for begin, end in pairwise(offsets.tolist())]


def rle_from_strings(texts: Sequence[bytes], size: tuple[int, int]) -> Rle:
    """Read COCO's compressed run-length strings of masks of one size.

    Raises:
        MaskError: a string is malformed or does not fill ``size``.
    """
    size = mask_size(size)
    if any(not isinstance(text, bytes) for text in texts):
        raise MaskError("run-length strings must be bytes; encode text as ASCII first")
    text_offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    offsets = np.zeros(len(texts) + 1, np.int64)
    with checks.mask_errors():
        counts = _core.rle_from_strings(b"".join(texts), text_offsets, size, offsets)
    return Rle(counts, offsets, size)


def rle_polygons(rle: Rle, *, threads: int = 0) -> list[list[NDArray[np.int32]]]:
    """Trace the edges between pixels around every mask.

    Returns:
        For every mask its rings, each ``(corners, 2)`` int32, x before y, in pixel corners: pixel
        (x, y) covers x to x + 1 and y to y + 1. Outer rings run clockwise on the screen (y down;
        their shoelace area is positive), holes anticlockwise. Neighbouring edges are
        perpendicular, no ring touches itself, and filling all rings of a mask by the even-odd rule
        gives the mask back. Pixels that touch at a corner only are in different rings.
    """
    mask_offsets = np.zeros(len(rle) + 1, np.int64)
    with checks.mask_errors():
        points, ring_offsets = _core.rle_polygons(
            rle.counts, rle.offsets, rle.size, mask_offsets, checks.threads(threads)
        )
    points = points.reshape(-1, 2)
    rings = [points[begin:end] for begin, end in pairwise(ring_offsets.tolist())]
    return [rings[begin:end] for begin, end in pairwise(mask_offsets.tolist())]


def rle_remove_small_regions(
    rle: Rle, min_area: float, mode: Literal["holes", "islands"], *, threads: int = 0
) -> tuple[Rle, NDArray[np.bool_]]:
    """Fill small holes or drop small islands, as Segment Anything's mask generator does.

    Regions are 8-connected. A hole is any region of the background, also one
    at the border of the image. When all islands are small the largest one stays.

    Args:
        rle: the masks.
        min_area: regions of fewer pixels are removed.
        mode: the kind of region to remove.
        threads: cores to use at most; 0 is all.

    Returns:
        The masks, and ``(n,)`` bool: true where a small region was found (a lone small
        island counts, although it stays).

    Raises:
        PromptError: the mode is unknown, or ``min_area`` is not a number.
    """
    if mode not in ("holes", "islands") or np.isnan(min_area):
        raise PromptError(
            f'mode must be "holes" or "islands" and min_area a number, not {mode!r}, {min_area}'
        )
    offsets = np.zeros(len(rle) + 1, np.int64)
    changed = np.zeros(len(rle), np.bool_)
    with checks.mask_errors():
        counts = _core.rle_remove_small_regions(
            rle.counts, rle.offsets, rle.size, (min_area, mode == "islands"), offsets,
            changed.view(np.uint8), checks.threads(threads),
        )  # fmt: skip
    return Rle(counts, offsets, rle.size), changed


def rle_iou(a: Rle, b: Rle, *, threads: int = 0) -> NDArray[np.float64]:
    """Compute the intersection over union of every mask of ``a`` with every mask of ``b``.

    Returns:
        ``(len(a), len(b))`` float64; 1 for two empty masks, which are the same mask.

    Raises:
        MaskError: the sizes differ.
    """
    if a.size != b.size:
        raise MaskError(f"masks to compare must have one size, not {a.size} and {b.size}")
    out = np.empty((len(a), len(b)), np.float64)
    with checks.mask_errors():
        _core.rle_iou(
            a.counts, a.offsets, b.counts, b.offsets, a.size, out, checks.threads(threads)
        )
    return out
