"""Differences between two outputs that should be the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fastseg import ops
from fastseg.contract import Array
from fastseg.errors import ParityError
from fastseg.ops import Rle


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between one output and the expected one."""

    name: str

    max_abs: float
    """Largest absolute difference of two elements; infinite where one is NaN and one is not."""

    relative: float
    """``max_abs`` divided by the largest absolute expected value."""

    nmse: float
    """Squared error divided by the energy of the expected output."""

    mask_iou_min: float | None = None
    """IoU of the worst mask with its counterpart; two empty masks agree."""

    mask_iou_mean: float | None = None

    def within(self, tolerance: float) -> bool:
        """Return whether the relative difference is at most ``tolerance``."""
        return self.relative <= tolerance


@dataclass(frozen=True, slots=True)
class Table:
    """Differences, one a row."""

    rows: tuple[Difference, ...]

    def within(self, tolerance: float) -> bool:
        """Return whether the relative difference of every row is at most ``tolerance``."""
        return all(row.within(tolerance) for row in self.rows)

    def as_rows(self) -> list[dict[str, Any]]:
        """Return the rows ready for JSON; numbers that are not finite become text."""
        return [
            {key: _plain(value) for key, value in asdict(row).items() if value is not None}
            for row in self.rows
        ]

    def __str__(self) -> str:
        width = max((len(row.name) for row in self.rows), default=4)
        lines = [f"{'name':{width}}   max abs  relative      nmse  mask IoU (min)    (mean)"]
        for row in self.rows:
            numbers = f"{row.max_abs:9.2e} {row.relative:9.2e} {row.nmse:9.2e}"
            ious = "".join(
                f"{'-' if iou is None else f'{iou:.6f}':>10}"
                for iou in (row.mask_iou_min, row.mask_iou_mean)
            )
            lines.append(f"{row.name:{width}} {numbers}      {ious}")
        return "\n".join(lines)


def compare_arrays(name: str, actual: Array, expected: Array) -> Difference:
    """Compare two arrays element by element, in double precision.

    Args:
        name: Name of the row.
        actual: Any shape and real dtype.
        expected: The same shape. NaN, or the same infinity, in both places is agreement.

    Raises:
        ParityError: Their shapes differ.
    """
    if actual.shape != expected.shape:
        raise ParityError(f"{name} has shape {actual.shape}, and {expected.shape} was expected")
    # Differences of float32 are exact enough in float64; the arrays go through in pieces, so that
    # a large one is not copied at twice its size.
    largest, error, energy, highest = 0.0, 0.0, 0.0, 0.0
    for first in range(0, expected.size, _PIECE):
        piece = slice(first, first + _PIECE)
        a = actual.reshape(-1)[piece].astype(np.float64)
        b = expected.reshape(-1)[piece].astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(a - b))
        gap[np.isnan(gap)] = math.inf
        finite = np.where(np.isfinite(b), b, 0.0)
        largest = max(largest, float(gap.max()))
        highest = max(highest, float(np.abs(finite).max()))
        error += float(np.square(gap).sum())
        energy += float(np.square(finite).sum())
    return Difference(name, largest, _ratio(largest, highest), _ratio(error, energy))


def compare_masks(name: str, actual: Rle, expected: Rle) -> Difference:
    """Compare masks of one size, pair by pair, by intersection over union.

    Returns:
        The two IoUs; as numbers the masks are zeros and ones, and ``relative`` is what the worst
        IoU lacks to 1.

    Raises:
        ParityError: There are not as many of them, or their sizes differ.
    """
    if len(actual) != len(expected) or actual.size != expected.size:
        raise ParityError(
            f"{name}: {len(actual)} masks of {actual.size} cannot be compared with "
            f"{len(expected)} of {expected.size}"
        )
    ious = [_iou(a, b) for a, b in zip(actual, expected, strict=True)]
    areas, sums = ops.rle_areas(expected), ops.rle_areas(actual) + ops.rle_areas(expected)
    # |a xor b| = |a| + |b| - 2 |a and b|, and |a and b| = (|a| + |b|) * iou / (1 + iou).
    wrong = sum(total * (1 - iou) / (1 + iou) for total, iou in zip(sums, ious, strict=True))
    worst = min(ious, default=1.0)
    return Difference(
        name,
        max_abs=float(worst < 1.0),
        relative=1.0 - worst,
        nmse=_ratio(float(wrong), float(areas.sum())),
        mask_iou_min=worst,
        mask_iou_mean=sum(ious) / len(ious) if ious else 1.0,
    )


def worst(tables: Sequence[Table]) -> Table:
    """Sum up tables of the same rows: the worst of each number, and the mean of mean IoUs.

    Raises:
        ParityError: Their rows differ, or there is no table.
    """
    names = {tuple(row.name for row in table.rows) for table in tables}
    if len(names) != 1:
        raise ParityError(f"tables of {sorted(names)} cannot be summed up")
    return Table(tuple(map(_worst, zip(*(table.rows for table in tables), strict=True))))


def _worst(rows: tuple[Difference, ...]) -> Difference:
    least = [row.mask_iou_min for row in rows if row.mask_iou_min is not None]
    means = [row.mask_iou_mean for row in rows if row.mask_iou_mean is not None]
    return Difference(
        rows[0].name,
        max_abs=max(row.max_abs for row in rows),
        relative=max(row.relative for row in rows),
        nmse=max(row.nmse for row in rows),
        mask_iou_min=min(least) if least else None,
        mask_iou_mean=sum(means) / len(means) if means else None,
    )


def compare_logits(name: str, actual: Array, expected: Array) -> Difference:
    """Compare (n, masks, height, width) logits as numbers, and the masks above 0 by IoU.

    Raises:
        ParityError: Their shapes differ.
    """
    numbers = compare_arrays(name, actual, expected)
    cut = [
        ops.rle_from_array(np.ascontiguousarray(logits > 0).reshape(-1, *logits.shape[-2:]))
        for logits in (actual, expected)
    ]
    masks = compare_masks(name, *cut)
    return replace(numbers, mask_iou_min=masks.mask_iou_min, mask_iou_mean=masks.mask_iou_mean)


_PIECE = 2**20
"""Elements that are compared at once."""


def _iou(a: Rle, b: Rle) -> float:
    if not ops.rle_areas(a).any() and not ops.rle_areas(b).any():
        return 1.0
    return float(ops.rle_iou(a, b)[0, 0])


def _ratio(part: float, whole: float) -> float:
    if part == 0.0:
        return 0.0
    return part / whole if whole > 0.0 else math.inf


def _plain(value: Any) -> Any:
    """Write what JSON lacks, infinities, as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
