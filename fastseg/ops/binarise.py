"""Masks of the whole image from low-resolution logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.geometry import Frame
from fastseg.ops import checks
from fastseg.ops.rle import Rle, mask_size


class Binarised(NamedTuple):
    """Masks from logits, with their areas, boxes and stability."""

    runs: Rle
    areas: NDArray[np.int64]
    """``(n,)`` pixels."""

    boxes: NDArray[np.int64]
    """``(n, 4)`` x0, y0, x1, y1 of the outermost pixels, inclusive; zeros for an empty mask."""

    stability: NDArray[np.float32]
    """``(n,)`` pixels above the raised threshold / above the lowered one; 0 / 0 is NaN."""


def row_threshold_kernels() -> tuple[str, ...]:
    """List the kernels that ``binarise`` can threshold rows with here, widest vectors first.

    Names are ``"avx512"``, ``"avx2"`` and ``"portable"``, as far as the processor supports them.
    """
    return tuple(_core.row_threshold_kernels())


def binarise(
    logits: NDArray[np.float32],
    frame: Frame,
    *,
    chosen: NDArray[np.intp] | None = None,
    threshold: float = 0.0,
    stability_offset: float = 1.0,
    threads: int = 0,
    kernel: str | None = None,
) -> Binarised:
    """Compute masks of the whole image from low-resolution logits.

    Segment Anything does this in three steps over full-resolution logits: enlarge bilinearly to the
    square, crop the padding away, enlarge bilinearly to the image (Kirillov et al. 2023). Here it
    is one weighted sum of 3 x 3 logits per pixel, computed only near outlines: the logits around
    the other pixels decide about them. A NaN counts as background.

    Args:
        logits: ``(n, h, w)`` float32, the padded square at low resolution; planes may lie apart,
            rows must not.
        frame: the image that the masks belong to; pixels outside its crop are background.
        chosen: ``(k,)`` indices of the planes to use, in this order; None for all. Others are not
            read.
        threshold: pixels above it are the mask.
        stability_offset: added to and subtracted from the threshold to judge the stability.
        threads: cores to use at most; 0 is all.
        kernel: the widest of ``row_threshold_kernels()`` that may be used; None for the first. All
            give the same masks.

    Raises:
        BackendError: this processor does not support the kernel.
        MaskError: the logits are not of that shape and dtype, or larger than the square, or
            ``chosen`` names a plane that is not there.
        PromptError: the threshold or the offset is not a usable number.
    """
    logits = checks.logits(logits, frame)
    checks.thresholds(threshold, stability_offset)
    mask_size(frame.image)
    chosen = checks.chosen(chosen, len(logits))
    if kernel is not None and kernel not in row_threshold_kernels():
        raise BackendError(
            f"There is no row threshold kernel {kernel!r} on this processor. "
            f"Use one of {', '.join(row_threshold_kernels())}."
        )
    count = len(chosen)
    offsets, areas = np.zeros(count + 1, np.int64), np.empty(count, np.int64)
    boxes, stability = np.empty((count, 4), np.int64), np.empty(count, np.float32)
    # Python adds in double precision, then the logits' precision decides: as torch compares.
    low, high = threshold - stability_offset, threshold + stability_offset
    counts = _core.binarise(
        logits, chosen, checks.native_frame(frame), (low, threshold, high),
        offsets, areas, boxes, stability, checks.threads(threads), kernel or "",
    )  # fmt: skip
    return Binarised(Rle(counts, offsets, frame.image), areas, boxes, stability)
