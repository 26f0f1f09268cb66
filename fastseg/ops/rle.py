"""Masks as run lengths, their form between the kernels and a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.errors import MaskError

LARGEST_AREA = 2**32 - 1
"""Pixels of the largest mask; a run length is an unsigned 32-bit number."""


@dataclass(frozen=True, slots=True, eq=False)
class Rle:
    """Masks of one size as COCO run lengths.

    A mask is read column by column; its first count is background, the next foreground, and so
    on. The sum is height times width, which ``ops.rle_check`` checks. Indexing with an int, a
    slice, an array of indices or a boolean array gives ``Rle`` again.

    Raises:
        MaskError: counts and offsets do not belong together, or the size is empty or too large.
    """

    counts: NDArray[np.uint32]
    """``(total,)`` run lengths of all masks, one mask after another."""

    offsets: NDArray[np.int64]
    """``(n + 1,)`` where each mask begins in ``counts``, and the end of the last."""

    size: tuple[int, int]
    """Height and width in pixels."""

    def __post_init__(self) -> None:
        counts = _integers("run lengths", self.counts)
        offsets = _integers("run offsets", self.offsets)
        if counts.size and (counts.min() < 0 or counts.max() > LARGEST_AREA):
            raise MaskError(f"run lengths must be from 0 to {LARGEST_AREA}")
        ascending = bool((np.diff(offsets) >= 0).all())
        if not (offsets.size and offsets[0] == 0 and offsets[-1] == counts.size and ascending):
            raise MaskError(
                f"run offsets must ascend from 0 to {counts.size}, the number of run lengths"
            )
        object.__setattr__(self, "counts", np.ascontiguousarray(counts, dtype=np.uint32))
        object.__setattr__(self, "offsets", np.ascontiguousarray(offsets, dtype=np.int64))
        object.__setattr__(self, "size", mask_size(self.size))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Rle]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Rle:
        chosen = np.atleast_1d(np.arange(len(self))[index])
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shifts = np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return Rle(self.counts[np.arange(offsets[-1]) + shifts], offsets, self.size)

    def lists(self) -> list[list[int]]:
        """Return the run lengths of every mask as a list."""
        counts = self.counts.tolist()
        return [counts[begin:end] for begin, end in pairwise(self.offsets.tolist())]

    @staticmethod
    def from_lists(counts: Sequence[Sequence[int]], size: tuple[int, int]) -> Rle:
        """Make masks from lists of run lengths.

        Raises:
            MaskError: a list holds something else than run lengths.
        """
        flat = [count for mask in counts for count in mask]
        row = np.array(flat) if flat else np.zeros(0, np.uint32)
        return Rle(row, np.cumsum([0, *map(len, counts)]), size)

    @staticmethod
    def concatenate(parts: Sequence[Rle]) -> Rle:
        """Join masks of one size, in order.

        Raises:
            MaskError: there are no parts, or their sizes differ.
        """
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise MaskError(f"masks to join must have one size, not {sorted(sizes)}")
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        counts = np.concatenate([part.counts for part in parts])
        return Rle(counts, np.concatenate([[0], np.cumsum(lengths)]), sizes.pop())


def mask_size(size: tuple[int, int]) -> tuple[int, int]:
    """Check the height and width of a mask.

    Raises:
        MaskError: it would have no pixels, or more than a run length can count.
    """
    height, width = (int(length) for length in size)
    if height < 1 or width < 1 or height * width > LARGEST_AREA:
        raise MaskError(f"masks must have from 1 to {LARGEST_AREA} pixels, not {height} x {width}")
    return height, width


def _integers(name: str, values: ArrayLike) -> NDArray[np.integer[Any]]:
    row = np.asarray(values)
    if row.ndim != 1 or row.dtype.kind not in "iu":
        raise MaskError(f"{name} must be one row of integers, not {row.shape} {row.dtype}")
    return row
