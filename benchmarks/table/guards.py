"""Guards of ratios and memory, checked whenever the table is printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.table.store import Cell


@dataclass(frozen=True)
class Floor:
    """Least speed of one contender as a multiple of another's."""

    row: str
    fast: str
    slow: str
    least: float
    """Least ratio: the one last measured, minus the loss of a busy machine."""


@dataclass(frozen=True)
class Ceiling:
    """Greatest memory above the loaded model."""

    row: str
    contender: str
    most_bytes: int


FLOORS = (
    Floor("vit-b/everything-2", "fastseg fastest", "torch fp32", 10),
    Floor("vit-b/everything-2", "fastseg fastest", "official ONNX", 7),
    Floor("vit-b/everything-2", "fastseg fp32", "torch fp32", 6),
    Floor("vit-b/prompts-64", "fastseg fastest", "torch fp32", 10),
    Floor("vit-b/prompts-64", "fastseg fp32", "torch fp32", 6),
    Floor("sam-nano/everything-2", "fastseg fastest", "torch fp32", 18),
    Floor("sam-nano/everything-2", "fastseg fp32", "torch fp32", 9),
    Floor("unet-32/frames-8", "fastseg fastest", "torch fp32", 2),
)

CEILINGS = tuple(
    Ceiling(f"{model}/file-{megapixels}", contender, 1_200_000_000)
    for model in ("vit-b", "sam-nano")
    for megapixels in (1, 12, 100)
    for contender in ("fastseg fp32", "fastseg fastest")
)


def broken(cells: list[Cell]) -> Iterator[str]:
    """Describe each guard that does not hold; guards without measurements are skipped."""
    found = {(cell.row, cell.contender): cell for cell in cells}
    for floor in FLOORS:
        fast, slow = found.get((floor.row, floor.fast)), found.get((floor.row, floor.slow))
        if fast is None or slow is None:
            continue
        ratio = float(np.median(slow.rounds_ms) / np.median(fast.rounds_ms))
        if ratio < floor.least:
            yield (
                f"{floor.row}: {floor.fast} is {ratio:.2f} times as fast as {floor.slow}, "
                f"and must be {floor.least:g}"
            )
    for ceiling in CEILINGS:
        cell = found.get((ceiling.row, ceiling.contender))
        if cell is None or cell.peak_bytes is None:
            continue
        if cell.peak_bytes > ceiling.most_bytes:
            yield (
                f"{ceiling.row}: {ceiling.contender} takes {cell.peak_bytes / 1e6:.0f} MB above "
                f"the loaded model, and may take {ceiling.most_bytes / 1e6:.0f}"
            )
