"""Command that measures and prints the table: ``python -m benchmarks.table --out FOLDER``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

from benchmarks.table import guards, plots, report
from benchmarks.table.rows import IN_BFLOAT16, ROWS, TableRow, contenders_of
from benchmarks.table.store import Job, Store, differences
from fastseg.backends.native.runtime import precisions
from fastseg.environment import install_hint, usable_cores


def main(words: list[str] | None = None) -> int:
    """Measure the chosen rows, print all cells of the folder, check the guards."""
    arguments = parser().parse_args(words)
    folder: Path = arguments.out.resolve()
    if arguments.plots and not plots.drawable():  # before half an hour of measuring
        parser().error(f"--plots needs matplotlib. {install_hint('plot')}")
    if not arguments.print_only:
        run([sys.executable, "-m", "benchmarks.table.material", str(folder / "material")])
        for job in jobs(arguments, folder):
            print(f"{job.contender}: {', '.join(job.rows)}", file=sys.stderr, flush=True)
            run([sys.executable, "-m", "benchmarks.table.cell", job.to_json()])
    every = list(Store(folder / "cells"))
    cells = [cell for cell in every if cell.threads == arguments.threads]
    if not cells:
        print(f"nothing was measured with {arguments.threads} threads in {folder}", file=sys.stderr)
        return 1
    if unfair := differences(cells):
        print(f"these cells cannot share a table; {'; '.join(unfair)}", file=sys.stderr)
        return 1
    broken = list(guards.broken(cells))
    lines = [*report.text(cells), *(f"\n**BROKEN** {one}" for one in broken)]
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    shown = {"cells": [asdict(cell) for cell in cells], "broken": broken}
    print(json.dumps(shown, indent=1) if arguments.json else "\n".join(lines))
    if arguments.plots:
        plots.draw(every, folder)
    return 1 if broken else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    command.add_argument("--out", type=Path, required=True, help="cells, models, table and plots")
    command.add_argument("--rows", nargs="+", default=["*"], help="such as 'vit-b/prompts-*'")
    command.add_argument("--contenders", nargs="+", default=["*"], help="such as 'fastseg*'")
    command.add_argument("--threads", type=int, default=usable_cores())
    command.add_argument(
        "--full", action="store_true", help="let the references decode all 1024 prompts: minutes"
    )
    command.add_argument("--print-only", action="store_true", help="measure nothing")
    command.add_argument("--plots", action="store_true", help="also draw how the cost grows")
    command.add_argument("--json", action="store_true", help="print every cell as JSON")
    return command


def jobs(arguments: argparse.Namespace, folder: Path) -> list[Job]:
    """Return a job for each model and contender, contenders of a model one after another."""
    rows = [row for row in ROWS if any(fnmatch(row.name, wanted) for wanted in arguments.rows)]
    chosen = [
        name
        for name in contenders_of(rows)
        if any(fnmatch(name, wanted) for wanted in arguments.contenders)
    ]
    if "bf16" not in precisions():
        for name in filter(chosen.__contains__, IN_BFLOAT16):
            reason = "this processor has no instructions for bf16"
            print(f"{name} is left out: {reason}", file=sys.stderr)
        chosen = [name for name in chosen if name not in IN_BFLOAT16]
    found = []
    for _, group in groupby(rows, key=lambda row: row.model):
        some: list[TableRow] = list(group)
        for name in contenders_of(some):
            if name in chosen:
                names = tuple(row.name for row in some if name in row.contenders)
                found.append(Job(folder, name, names, arguments.threads, short=not arguments.full))
    return found


def run(command: list[str]) -> None:
    """Run a step in a process of its own, from the root of the repository."""
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


if __name__ == "__main__":
    sys.exit(main())
