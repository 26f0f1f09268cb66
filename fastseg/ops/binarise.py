"""Masks of the whole picture, cut out of low-resolution logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.geometry import Frame
from fastseg.ops import checks
from fastseg.ops.rle import Runs, mask_size


class Binarised(NamedTuple):
    """Masks that were cut out of logits, and what was measured on the way."""

    runs: Runs
    areas: NDArray[np.int64]
    """``(n,)`` pixels."""

    boxes: NDArray[np.int64]
    """``(n, 4)`` x0, y0, x1, y1 of the outermost pixels, inclusive; zeros for an empty mask."""

    stability: NDArray[np.float32]
    """``(n,)`` pixels above the raised threshold / above the lowered one; 0 / 0 is NaN."""


def sieves() -> tuple[str, ...]:
    """Names of the vectors that ``binarise`` can compute with on this processor, widest first.

    Some of ``"avx512"``, ``"avx2"`` and ``"portable"``.
    """
    return tuple(_core.sieves())


def binarise(
    logits: NDArray[np.float32],
    frame: Frame,
    *,
    chosen: NDArray[np.intp] | None = None,
    threshold: float = 0.0,
    stability_offset: float = 1.0,
    threads: int = 0,
    sieve: str | None = None,
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
        chosen: ``(k,)`` which of the ``n``, in this order; None for all. Others are not read.
        threshold: a mask is what lies above it.
        stability_offset: how far the threshold is moved up and down to judge the stability.
        threads: cores to use at most; 0 is all.
        sieve: the widest of ``sieves()`` that may be used; None for the first. All give the same
            masks.

    Raises:
        BackendError: this processor does not have the sieve.
        MaskError: the logits are not of that shape and dtype, or larger than the square, or one is
            chosen that is not among them.
        PromptError: the threshold or the offset is not a usable number.
    """
    logits = checks.logits(logits, frame)
    checks.thresholds(threshold, stability_offset)
    mask_size(frame.image)
    chosen = checks.chosen(chosen, len(logits))
    if sieve is not None and sieve not in sieves():
        raise BackendError(
            f"Masks have no sieve {sieve!r} on this processor, but {', '.join(sieves())}."
        )
    count = len(chosen)
    offsets, areas = np.zeros(count + 1, np.int64), np.empty(count, np.int64)
    boxes, stability = np.empty((count, 4), np.int64), np.empty(count, np.float32)
    # Python adds in double precision, then the logits' precision decides: as torch compares.
    low, high = threshold - stability_offset, threshold + stability_offset
    counts = _core.binarise(
        logits, chosen, checks.frame_numbers(frame), (low, threshold, high),
        offsets, areas, boxes, stability, checks.threads(threads), sieve or "",
    )  # fmt: skip
    return Binarised(Runs(counts, offsets, frame.image), areas, boxes, stability)
