"""Measured cells on disk, so that a table can be collected in pieces and printed from them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.table.rows import OURS
from fastseg import environment
from fastseg.storage.atomic import atomic_file


@dataclass(frozen=True)
class Cell:
    """One contender on one row."""

    row: str
    contender: str
    threads: int
    rounds_ms: list[float]
    """Milliseconds of each round, of a frame where frames are counted; extrapolated if ``how``
    says so."""

    peak_bytes: int | None
    """Peak resident memory above the loaded model, None where it is unknown."""

    masks: int | None
    """Masks of the last round; None if it did not decode all prompts."""

    ran: str
    how: str
    about: dict[str, Any]
    """Machine, versions, commit, time."""

    stages_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds of each stage of the last round; empty if unknown."""

    peak_gflops: float | None = None
    """Measured peak of the processor in float32, by the same process; None if unknown."""

    def above(self, loaded_bytes: int) -> Cell:
        """Return the cell with its memory counted from the loaded model's."""
        if self.peak_bytes is None:
            return self
        return replace(self, peak_bytes=max(0, self.peak_bytes - loaded_bytes))


@dataclass(frozen=True)
class Store:
    """A folder of cells, one file each; a later measurement replaces an earlier one."""

    folder: Path

    def keep(self, cell: Cell) -> None:
        """Write a cell."""
        name = f"{cell.row}.{cell.contender}.{cell.threads}".replace("/", ".").replace(" ", "-")
        with atomic_file(self.folder / f"{name}.json") as file:
            file.write_text(json.dumps(asdict(cell), indent=1))

    def __iter__(self) -> Iterator[Cell]:
        for file in sorted(self.folder.glob("*.json")):
            yield Cell(**json.loads(file.read_text()))


@dataclass(frozen=True)
class Job:
    """The rows that one process measures for one contender."""

    folder: Path
    contender: str
    rows: tuple[str, ...]
    threads: int
    short: bool

    @property
    def store(self) -> Store:
        """The store of its cells."""
        return Store(self.folder / "cells")

    def to_json(self) -> str:
        """Write the job for the command line of its process."""
        return json.dumps({**asdict(self), "folder": str(self.folder)})

    @staticmethod
    def from_json(words: str) -> Job:
        """Read the output of ``to_json``."""
        given = json.loads(words)
        return Job(**{**given, "folder": Path(given["folder"]), "rows": tuple(given["rows"])})


def about() -> dict[str, Any]:
    """Return machine, versions, commit and time of a measurement."""
    return {
        **environment.machine(),
        "versions": environment.versions(),
        "commit": commit(),
    }


def commit() -> str:
    """Return the commit of this tree, with a ``+`` if the tree has changes."""
    root = Path(__file__).parents[2]
    words = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    run = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def differences(cells: list[Cell]) -> list[str]:
    """Describe the differences in environment that make a table of these cells unfair.

    The commit is that of fastseg's own cells: the references run none of its code.
    """
    found = []
    for name in ("cpu", "cores", "system", "versions", "commit"):
        some = [cell for cell in cells if name != "commit" or cell.contender in OURS]
        values = {json.dumps(cell.about[name], sort_keys=True) for cell in some}
        if len(values) > 1:
            found.append(f"{name}: {' and '.join(sorted(values))}")
    return found
