"""The table as Markdown: a summary with all contenders side by side, then every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from benchmarks.table.rows import OURS, ROWS, TableRow, contenders_of
from benchmarks.table.store import Cell

BASES = {"torch fp32": "torch", "official ONNX": "ONNX"}
"""Contenders that the last columns compare with."""


def text(cells: list[Cell]) -> Iterator[str]:
    """Yield the lines of the report; all cells are of one machine and one number of threads."""
    yield environment(cells)
    measured = {cell.contender for cell in cells}
    if left_out := [name for name in contenders_of(ROWS) if name not in measured]:
        yield f"\nNot measured: {', '.join(left_out)}"
    for model, rows in groupby(ROWS, key=lambda row: row.model):
        present = [row for row in rows if any(cell.row == row.name for cell in cells)]
        if present:
            yield f"\n### {model}, milliseconds\n"
            yield from markdown(summary(present, cells))
            yield f"\n### {model}, every cell\n"
            yield from markdown(details(present, cells))


def environment(cells: list[Cell]) -> str:
    """Describe machine, versions and time in one line."""
    times = sorted(cell.about["time"] for cell in cells)
    about = next((cell for cell in cells if cell.contender in OURS), cells[0]).about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['system']}, {cells[0].threads} threads; "
        f"{versions}; commit {about['commit']}; warm; {times[0]} to {times[-1]}"
    )


def summary(rows: Sequence[TableRow], cells: list[Cell]) -> list[Sequence[str]]:
    """Return the medians of a model, a line for each row and a column for each contender."""
    names = list(dict.fromkeys(cell.contender for row in rows for cell in of(row, cells)))
    fastest = names[-1]
    heading = ["", *names, *(f"{fastest} x {short}" for short in BASES.values())]
    lines: list[Sequence[str]] = [heading]
    for row in rows:
        medians = {cell.contender: median(cell) for cell in of(row, cells)}
        ours = medians.get(fastest)
        ratios = [
            f"**{medians[base] / ours:.1f}**" if ours and base in medians else "" for base in BASES
        ]
        shown = [number(medians[name]) if name in medians else "" for name in names]
        lines.append([row.title, *shown, *ratios])
    return lines


def details(rows: Sequence[TableRow], cells: list[Cell]) -> list[Sequence[str]]:
    """Return every cell of a model with its spread, memory and manner of measurement."""
    lines: list[Sequence[str]] = [
        ("", "contender", "ran on", "median ms", "p90", "p99", "least..most", "rounds", "peak MB",
         "masks", "GFLOP/s", "of FP32 peak", "how")
    ]  # fmt: skip
    for row in rows:
        for cell in of(row, cells):
            rounds, peak = cell.rounds_ms, cell.peak_bytes
            many = len(rounds) >= 10
            lines.append(
                (
                    row.title,
                    cell.contender,
                    cell.ran,
                    number(median(cell)),
                    number(np.percentile(rounds, 90)) if many else "",
                    number(np.percentile(rounds, 99)) if many else "",
                    f"{number(min(rounds))}..{number(max(rounds))}",
                    str(len(rounds)),
                    "" if peak is None else f"{peak / 1e6:.0f}",
                    "" if cell.masks is None else str(cell.masks),
                    *rate(row, cell),
                    cell.how or stages(cell),
                )
            )
    return lines


def of(row: TableRow, cells: list[Cell]) -> list[Cell]:
    """Return the cells of a row, in the order of its contenders."""
    found = {cell.contender: cell for cell in cells if cell.row == row.name}
    return [found[name] for name in row.contenders if name in found]


def stages(cell: Cell) -> str:
    """Describe the milliseconds of each stage."""
    return ", ".join(f"{name} {number(ms)}" for name, ms in cell.stages_ms.items())


def rate(row: TableRow, cell: Cell) -> tuple[str, str]:
    """Return the GFLOP/s of a cell and their share of the float32 peak; empty where unknown."""
    runtimes, *precisions = cell.ran.split()
    low_rank = runtimes.endswith("native") and precisions == ["fp32"]
    gflop = row.gflop(low_rank=low_rank)
    if gflop is None:
        return "", ""
    gflops = gflop / (median(cell) * row.per) * 1e3
    share = "" if cell.peak_gflops is None else f"{gflops / cell.peak_gflops:.0%}"
    return number(gflops), share


def median(cell: Cell) -> float:
    """Return the median in milliseconds of the unit of the row."""
    return float(np.median(cell.rounds_ms))


def number(ms: float) -> str:
    """Format three digits, which is more than a machine repeats."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def markdown(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * max(width, 3) for width in widths]
    for line in (lines[0], rule, *lines[1:]):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield f"| {' | '.join(cells)} |"
