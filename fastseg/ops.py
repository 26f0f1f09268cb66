"""The native kernels with types: arrays are checked here, computed in C++, and nowhere else.

Every function is exact: the same bits for any number of threads and on any processor. Those that
take ``Runs`` raise ``MaskError`` when run lengths do not sum to height times width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import _core, checks  # noqa: TID251 - this is the door to the native module
from fastseg.errors import ImageError, MaskError, PromptError
from fastseg.geometry import Frame
from fastseg.runs import Runs, mask_size

__all__ = [
    "Binarised",
    "Runs",
    "binarise",
    "box_nms",
    "near_crop_edge",
    "pad_prompts",
    "point_grid",
    "preprocess",
    "resize_bilinear",
    "runs_areas",
    "runs_boxes",
    "runs_check",
    "runs_from_array",
    "runs_from_strings",
    "runs_iou",
    "runs_polygons",
    "runs_remove_small_regions",
    "runs_to_array",
    "runs_to_strings",
]


class Binarised(NamedTuple):
    """Masks that were cut out of logits, and what was measured on the way."""

    runs: Runs
    areas: NDArray[np.int64]
    """``(n,)`` pixels."""

    boxes: NDArray[np.int64]
    """``(n, 4)`` x0, y0, x1, y1 of the outermost pixels, inclusive; zeros for an empty mask."""

    stability: NDArray[np.float32]
    """``(n,)`` pixels above the raised threshold / above the lowered one; 0 / 0 is NaN."""


def resize_bilinear(
    image: NDArray[np.uint8], size: tuple[int, int], *, threads: int = 0
) -> NDArray[np.uint8]:
    """Resize a picture exactly as Pillow's ``BILINEAR`` does, which antialiases when shrinking.

    Exactly as Pillow 13; earlier ones always go horizontally first, which shows in the last bit
    where the height loses more than twice as many pixels as the width.

    Args:
        image: ``(height, width, 3)`` uint8.
        size: height and width of the result in pixels.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(*size, 3)`` uint8.

    Raises:
        ImageError: the picture is not of that shape and dtype, or one of the sizes is empty.
    """
    image, (height, width) = checks.picture(image), size
    if height < 1 or width < 1:
        raise ImageError(f"a picture cannot be resized to {height} x {width} pixels")
    out = np.empty((height, width, 3), np.uint8)
    _core.resize_bilinear(image, out, checks.threads(threads))
    return out


def preprocess(
    image: NDArray[np.uint8], frame: Frame, mean: ArrayLike, std: ArrayLike, *, threads: int = 0
) -> NDArray[np.float32]:
    """Make a model's input: crop, resize, normalise, then pad with zeros at the bottom and right.

    Args:
        image: ``(height, width, 3)`` uint8, the whole picture.
        frame: which part is looked at, and how large it becomes.
        mean: of the three channels, 0 to 255.
        std: of the three channels.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(3, side, side)`` float32, ``(value - mean) / std`` in single precision.

    Raises:
        ImageError: the picture is not of that shape and dtype, or not the one of ``frame``.
    """
    image, numbers = checks.picture(image), checks.frame_numbers(frame)
    if image.shape[:2] != tuple(frame.image):
        raise ImageError(f"the frame is for a picture of {frame.image}, not {image.shape[:2]}")
    means, stds = (np.ascontiguousarray(values, dtype=np.float32) for values in (mean, std))
    if not means.shape == stds.shape == (3,):
        raise ImageError(f"mean and std have three numbers each, not {mean!r} and {std!r}")
    out = np.empty((3, frame.side, frame.side), np.float32)
    _core.preprocess(image, numbers, means, stds, out, checks.threads(threads))
    return out


def point_grid(points_per_side: int) -> NDArray[np.float64]:
    """Spread points evenly over the unit square, each at the centre of its cell.

    Returns:
        ``(points_per_side ** 2, 2)`` float64, x before y, x fastest, all within 0 to 1; the same
        bits as Segment Anything's grid.

    Raises:
        PromptError: ``points_per_side`` is less than 1.
    """
    if points_per_side < 1:
        raise PromptError(f"points_per_side must be at least 1, not {points_per_side}")
    out = np.empty((points_per_side**2, 2), np.float64)
    _core.point_grid(out, points_per_side)
    return out


def pad_prompts(
    points: NDArray[np.float32], labels: NDArray[np.int32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Bring prompts of different lengths to the longest one's.

    Args:
        points: ``(total, 2)`` float32, the points of all prompts, one prompt after another.
        labels: ``(total,)`` int32.
        offsets: ``(n + 1,)`` int64, where each prompt begins, and the end of the last.

    Returns:
        ``(n, longest, 2)`` float32 and ``(n, longest)`` int32; missing points are (0, 0) with
        label -1.

    Raises:
        PromptError: the shapes contradict each other.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise PromptError(
            f"points must be (total, 2) and labels (total,), not {points.shape} and {labels.shape}"
        )
    checks.prompt_offsets(offsets, len(points))
    lengths = np.diff(offsets)
    longest = int(lengths.max(initial=0))
    padded_points = np.empty((len(lengths), longest, 2), np.float32)
    padded_labels = np.empty((len(lengths), longest), np.int32)
    _core.pad_prompts(points, labels, offsets, padded_points, padded_labels)
    return padded_points, padded_labels


def binarise(
    logits: NDArray[np.float32],
    frame: Frame,
    *,
    threshold: float = 0.0,
    stability_offset: float = 1.0,
    threads: int = 0,
) -> Binarised:
    """Cut masks of the whole picture out of low-resolution logits.

    What Segment Anything does in three steps over full-resolution logits (enlarge bilinearly to
    the square, crop the padding away, enlarge bilinearly to the picture; Kirillov et al. 2023), as
    one weighted sum of 3 x 3 logits per pixel, and only for pixels near an outline: the others are
    settled by the logits around them. A NaN counts as background.

    Args:
        logits: ``(n, h, w)`` float32, the padded square at low resolution; planes may lie apart,
            rows must not.
        frame: the picture that the masks belong to; pixels outside its crop are background.
        threshold: a mask is what lies above it.
        stability_offset: how far the threshold is moved up and down to judge the stability.
        threads: cores to use at most; 0 is all.

    Raises:
        MaskError: the logits are not of that shape and dtype, or larger than the square.
        PromptError: the threshold or the offset is not a usable number.
    """
    logits = checks.logits(logits, frame)
    checks.thresholds(threshold, stability_offset)
    mask_size(frame.image)
    count = len(logits)
    offsets, areas = np.zeros(count + 1, np.int64), np.empty(count, np.int64)
    boxes, stability = np.empty((count, 4), np.int64), np.empty(count, np.float32)
    # Python adds in double precision, then the logits' precision decides: as torch compares.
    low, high = threshold - stability_offset, threshold + stability_offset
    counts = _core.binarise(
        logits, checks.frame_numbers(frame), (low, threshold, high),
        offsets, areas, boxes, stability, checks.threads(threads),
    )  # fmt: skip
    return Binarised(Runs(counts, offsets, frame.image), areas, boxes, stability)


def runs_check(runs: Runs) -> None:
    """Make sure that every mask's run lengths sum to height times width."""
    with checks.mask_errors():
        _core.runs_check(runs.counts, runs.offsets, runs.size)


def runs_areas(runs: Runs) -> NDArray[np.int64]:
    """Count the pixels of every mask, ``(n,)``."""
    out = np.empty(len(runs), np.int64)
    with checks.mask_errors():
        _core.runs_areas(runs.counts, runs.offsets, runs.size, out)
    return out


def runs_boxes(runs: Runs) -> NDArray[np.int64]:
    """Box every mask: ``(n, 4)`` outermost pixels x0, y0, x1, y1, zeros for an empty mask."""
    out = np.empty((len(runs), 4), np.int64)
    with checks.mask_errors():
        _core.runs_boxes(runs.counts, runs.offsets, runs.size, out)
    return out


def runs_to_array(runs: Runs, *, threads: int = 0) -> NDArray[np.bool_]:
    """Draw every mask: ``(n, height, width)`` bool."""
    out = np.empty((len(runs), *runs.size), np.bool_)
    with checks.mask_errors():
        _core.runs_to_array(runs.counts, runs.offsets, out.view(np.uint8), checks.threads(threads))
    return out


def runs_from_array(masks: NDArray[np.bool_], *, threads: int = 0) -> Runs:
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
    counts = _core.runs_from_array(masks.view(np.uint8), offsets, checks.threads(threads))
    return Runs(counts, offsets, size)


def runs_to_strings(runs: Runs) -> list[bytes]:
    """Write COCO's compressed run-length strings, as pycocotools does."""
    offsets = np.zeros(len(runs) + 1, np.int64)
    with checks.mask_errors():
        text = _core.runs_to_strings(runs.counts, runs.offsets, runs.size, offsets)
    return [text[begin:end] for begin, end in pairwise(offsets.tolist())]


def runs_from_strings(texts: Sequence[bytes], size: tuple[int, int]) -> Runs:
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
        counts = _core.runs_from_strings(b"".join(texts), text_offsets, size, offsets)
    return Runs(counts, offsets, size)


def runs_polygons(runs: Runs, *, threads: int = 0) -> list[list[NDArray[np.int32]]]:
    """Follow the cracks between pixels around every mask.

    Returns:
        For every mask its rings, each ``(corners, 2)`` int32, x before y, in pixel corners: pixel
        (x, y) covers x to x + 1 and y to y + 1. Outer rings run clockwise on the screen (y down;
        their shoelace area is positive), holes anticlockwise. Neighbouring edges are
        perpendicular, no ring touches itself, and filling all rings of a mask by the even-odd rule
        gives the mask back. Pixels that touch at a corner only are in different rings.
    """
    mask_offsets = np.zeros(len(runs) + 1, np.int64)
    with checks.mask_errors():
        points, ring_offsets = _core.runs_polygons(
            runs.counts, runs.offsets, runs.size, mask_offsets, checks.threads(threads)
        )
    points = points.reshape(-1, 2)
    rings = [points[begin:end] for begin, end in pairwise(ring_offsets.tolist())]
    return [rings[begin:end] for begin, end in pairwise(mask_offsets.tolist())]


def runs_remove_small_regions(
    runs: Runs, min_area: float, mode: Literal["holes", "islands"], *, threads: int = 0
) -> tuple[Runs, NDArray[np.bool_]]:
    """Fill small holes or drop small islands, as Segment Anything's mask generator does.

    Regions hang together over edges and corners. A hole is any region of the background, also one
    at the border of the picture. When all islands are small the largest one stays.

    Args:
        runs: the masks.
        min_area: regions of fewer pixels go.
        mode: what to look at.
        threads: cores to use at most; 0 is all.

    Returns:
        The masks, and ``(n,)`` bool: whether a small region was found (a lone small island
        counts, although it stays).

    Raises:
        PromptError: the mode is unknown, or ``min_area`` is not a number.
    """
    if mode not in ("holes", "islands") or np.isnan(min_area):
        raise PromptError(
            f'mode must be "holes" or "islands" and min_area a number, not {mode!r}, {min_area}'
        )
    offsets = np.zeros(len(runs) + 1, np.int64)
    changed = np.zeros(len(runs), np.bool_)
    with checks.mask_errors():
        counts = _core.runs_remove_small_regions(
            runs.counts, runs.offsets, runs.size, (min_area, mode == "islands"), offsets,
            changed.view(np.uint8), checks.threads(threads),
        )  # fmt: skip
    return Runs(counts, offsets, runs.size), changed


def runs_iou(a: Runs, b: Runs, *, threads: int = 0) -> NDArray[np.float64]:
    """Intersection over union of every mask of ``a`` with every mask of ``b``.

    Returns:
        ``(len(a), len(b))`` float64; 1 for two empty masks, which are the same mask.

    Raises:
        MaskError: the sizes differ.
    """
    if a.size != b.size:
        raise MaskError(f"masks to compare must have one size, not {a.size} and {b.size}")
    out = np.empty((len(a), len(b)), np.float64)
    with checks.mask_errors():
        _core.runs_iou(
            a.counts, a.offsets, b.counts, b.offsets, a.size, out, checks.threads(threads)
        )
    return out


def box_nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> NDArray[np.int64]:
    """Keep the best of boxes that overlap (greedy suppression with torchvision's arithmetic).

    Args:
        boxes: ``(n, 4)`` x0, y0, x1, y1, computed with in float32.
        scores: ``(n,)``; a NaN counts as the highest.
        iou_threshold: boxes that overlap a better one by more than this go.

    Returns:
        ``(kept,)`` int64 indices in descending order of score; equal scores keep their order.

    Raises:
        PromptError: the shapes contradict each other.
    """
    boxes = np.ascontiguousarray(boxes, dtype=np.float32)
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise PromptError(
            f"boxes must be (n, 4) and scores (n,), not {boxes.shape} and {scores.shape}"
        )
    kept = np.empty(len(boxes), np.int64)
    return kept[: _core.box_nms(boxes, scores, iou_threshold, kept)]


def near_crop_edge(boxes: ArrayLike, frame: Frame, tolerance: float = 20.0) -> NDArray[np.bool_]:
    """Find boxes that were probably cut by the crop.

    Args:
        boxes: ``(n, 4)`` integers x0, y0, x1, y1 in pixels of the whole picture.
        frame: whose crop was looked at.
        tolerance: pixels within which a box ends at an edge.

    Returns:
        ``(n,)`` bool: some side lies near the same side of the crop, but not near that of the
        picture.

    Raises:
        PromptError: the boxes are not of that shape, or not integers.
    """
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iu":
        raise PromptError(f"boxes must be (n, 4) integers, not {boxes.shape} {boxes.dtype}")
    out = np.empty(len(boxes), np.bool_)
    _core.near_crop_edge(
        np.ascontiguousarray(boxes, dtype=np.int64),
        checks.frame_numbers(frame),
        tolerance,
        out.view(np.uint8),
    )
    return out
