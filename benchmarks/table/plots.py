"""Plots of the cost by prompts, image size and threads, from the cells of a table."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.table.report import median
from benchmarks.table.rows import ROWS, TableRow
from benchmarks.table.store import Cell
from fastseg.storage.atomic import atomic_file

MODELS = ("vit-b", "sam-nano")
ON_THREADS = ("encoder", "prompts-64", "everything-2")
"""Rows of a model that are shown by threads."""


def drawable() -> bool:
    """Return True if matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(cells: list[Cell], folder: Path) -> None:
    """Write ``growth.png``: a row of panels for each model."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    most = max(cell.threads for cell in cells)
    here = [cell for cell in cells if cell.threads == most]
    figure, panels = pyplot.subplots(len(MODELS), 3, figsize=(14, 8.5), squeeze=False)
    for model, (prompts, sizes, threads) in zip(MODELS, panels, strict=True):
        by_amount(prompts, here, f"{model}/prompts", "prompts after embedding")
        by_amount(sizes, here, f"{model}/everything", "megapixels, everything mode")
        by_threads(threads, cells, model)
    panels[0][0].legend(fontsize=8)
    about = here[0].about
    figure.suptitle(
        f"{about['cpu']}, {most} threads, commit {about['commit']}; lines through medians; "
        "hollow marks are extrapolated",
        fontsize=10,
    )
    figure.tight_layout()
    with atomic_file(folder / "growth.png") as file:
        figure.savefig(file, dpi=120)
    pyplot.close(figure)


def by_amount(axes: Any, cells: list[Cell], kind: str, label: str) -> None:
    """Draw seconds by the amount of a kind of work, a line for each contender."""
    rows = [row for row in ROWS if row.name.startswith(f"{kind}-")]
    for index, name in enumerate(rows[0].contenders):
        points = [(row.amount, cell) for row in rows for cell in found(cells, row, name)]
        if not points:
            continue
        colour = f"C{index}"
        seconds = [median(cell) / 1e3 for _, cell in points]
        axes.plot([amount for amount, _ in points], seconds, color=colour, label=name)
        for (amount, cell), value in zip(points, seconds, strict=True):
            face = "white" if cell.how.endswith("linearly") else colour
            axes.plot(amount, value, "o", color=colour, markerfacecolor=face)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds", title=kind.split("/")[0])
    axes.set_xticks([row.amount for row in rows], [str(row.amount) for row in rows])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def by_threads(axes: Any, cells: list[Cell], model: str) -> None:
    """Draw the speed of fastseg by threads, as a multiple of one thread's."""
    counts = sorted({cell.threads for cell in cells})
    if counts[0] > 1:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "measure with --threads 1, too", ha="center")
        return
    for row in (row for row in ROWS if row.name in [f"{model}/{one}" for one in ON_THREADS]):
        for style, name in zip(("-", "--"), row.contenders[-2:], strict=True):
            times = {cell.threads: median(cell) for cell in found(cells, row, name)}
            if 1 in times:
                shares = [(count, times[1] / times[count]) for count in counts if count in times]
                axes.plot(
                    *zip(*shares, strict=True), style, marker="o", label=f"{row.title}, {name}"
                )
    axes.plot(counts, counts, ":", color="grey", label="ideal")
    axes.set(xlabel="threads", ylabel="times as fast as one thread", title=model)
    axes.set_xticks(counts)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")


def found(cells: list[Cell], row: TableRow, contender: str) -> list[Cell]:
    """Return the cells of a contender on a row, one for each number of threads."""
    return [cell for cell in cells if (cell.row, cell.contender) == (row.name, contender)]
