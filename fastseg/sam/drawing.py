"""Masks of the image from low-resolution logits, as the rules of the model state it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts.rules import DIRECT_CUBIC, PROBABILITIES, OutputRules
from fastseg.contract import MULTIPLE
from fastseg.geometry import Frame
from fastseg.ops import Binarised, Rle

STABLE_FROM, STABLE_WITHIN = 0.98, 0.05
"""Least stability of the single mask of SAM 2, and the shift of the threshold it is measured by."""

CUBIC_PIXELS = 2**23
"""Most pixels of enlarged logits that are kept at once, 34 MB of them, but those of one mask."""


def draw(
    logits: NDArray[np.float32],
    frame: Frame,
    rules: OutputRules,
    *,
    chosen: NDArray[np.intp] | None = None,
    stability_offset: float = 1.0,
    threads: int = 0,
) -> Binarised:
    """Compute masks of the whole image from low-resolution logits; see ``ops.binarise``.

    Args:
        logits: float32 (n, h, w).
        frame: The image that the masks belong to.
        rules: Of the model.
        chosen: (k,) indices of the planes to use; None for all.
        stability_offset: Shift of the logit threshold that stability is measured with.
        threads: Cores to use at most; 0 is all.
    """
    if rules.resize == DIRECT_CUBIC:
        planes = logits if chosen is None else logits[chosen]
        return _drawn_by_cubics(planes, frame, stability_offset, threads)
    threshold, values = 0.0, logits
    if rules.interpolate == PROBABILITIES:
        # The sigmoid is symmetric about its middle: both shifted thresholds are equally far.
        threshold, stability_offset = 0.5, _sigmoid(stability_offset) - 0.5
        values = (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
    return ops.binarise(
        values,
        rules.frame(frame, logits.shape[-1]),
        chosen=chosen,
        threshold=threshold,
        stability_offset=stability_offset,
        threads=threads,
    )


def drawn_extent(frame: Frame, rules: OutputRules, mask_side: int) -> tuple[int, int] | None:
    """Return the rows and columns of logits that ``draw`` reads, from the top left.

    Args:
        frame: The image that the masks belong to.
        rules: Of the model.
        mask_side: Height and width of the logits.

    Returns:
        Rows and columns, or None where ``draw`` reads all logits.
    """
    if rules.resize == DIRECT_CUBIC or rules.interpolate == PROBABILITIES:
        return None
    into = rules.frame(frame, mask_side)
    # The last pixel lies between two logits, and a kernel reads the one behind them too.
    rows, columns = (
        min(mask_side, max(0, math.floor((length - 0.5) * mask_side / into.side - 0.5)) + 3)
        for length in into.resized
    )
    return rows, columns


def _drawn_by_cubics(
    planes: NDArray[np.float32], frame: Frame, stability_offset: float, threads: int
) -> Binarised:
    """Enlarge a few planes at a time, which are then cut as logits of the image's resolution."""
    height, width = frame.size
    # In a square of its longest side the crop keeps its size: both steps of the kernel do nothing.
    whole = Frame(frame.image, max(height, width), frame.crop)
    at_once = max(1, CUBIC_PIXELS // whole.side**2)
    squares = np.zeros((min(at_once, len(planes)), whole.side, whole.side), np.float32)
    found = []
    for first in range(0, len(planes), at_once):
        some = np.ascontiguousarray(planes[first : first + at_once])
        enlarged = squares[: len(some)]
        ops.enlarge_cubic(some, (height, width), out=enlarged, threads=threads)
        found.append(
            ops.binarise(enlarged, whole, stability_offset=stability_offset, threads=threads)
        )
    if not found:
        return ops.binarise(np.zeros((0, 1, 1), np.float32), whole, threads=threads)
    runs, *numbers = zip(*found, strict=True)
    return Binarised(Rle.concatenate(runs), *map(np.concatenate, numbers))


def single_slots(logits: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Choose the slot of the single mask of each prompt by the rule ``STABLE`` of SAM 2.

    That is slot 0 where its mask hardly depends on the threshold, else the best-scored alternative.

    Args:
        logits: (n, 4, h, w) of every slot.
        scores: (n, 4) their predicted IoU.

    Returns:
        (n,) indices of slots.
    """
    single = logits[:, 0]
    inner = np.count_nonzero(single > STABLE_WITHIN, axis=(1, 2))
    outer = np.count_nonzero(single > -STABLE_WITHIN, axis=(1, 2))
    stability = np.where(outer > 0, inner / np.maximum(outer, 1), 1.0)
    best = MULTIPLE.start + np.argmax(scores[:, MULTIPLE], axis=1)
    return np.where(stability >= STABLE_FROM, 0, best)


def kept_logits(logits: NDArray[np.float32], rules: OutputRules) -> NDArray[np.float32]:
    """Bound the logits that a mask keeps, as its model was trained on them as prompts."""
    if math.isinf(rules.logit_limit):
        return logits
    return np.clip(logits, -rules.logit_limit, rules.logit_limit)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-80.0, min(80.0, x))))
