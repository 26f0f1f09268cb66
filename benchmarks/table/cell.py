"""One contender on some rows, in a process of its own: ``python -m benchmarks.table.cell JOB``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastseg
from benchmarks.table import frame_contenders
from benchmarks.table.contenders import PROMPTS_AT_ONCE, Contender, Search, load
from benchmarks.table.material import Material
from benchmarks.table.rows import OURS, PROMPTS_ON, ROWS, SIDE, Row
from benchmarks.table.store import Cell, Job, about
from fastseg.benchmarking.bench import spread_points
from fastseg.benchmarking.peak_memory import peak_memory
from fastseg.benchmarking.repetition import repeat
from fastseg.ops import point_grid

SHORT_BATCHES = 2
"""How many batches of prompts stand for all of them where a reference is cut short."""

FULL_SIZE_BYTES = 2 * 10**9
"""Most that a reference's full-size logits of one batch may take; batches shrink to fit."""


@dataclass(frozen=True)
class Work:
    """What is repeated."""

    run: Callable[[], int]
    """Answers with how many masks it made."""

    prepare: Callable[[], object] = lambda: None
    """Once, before it is repeated."""

    whole: Callable[[float], float] = float
    """From the milliseconds of a round to what stands in the table."""

    how: str = ""


@dataclass(frozen=True)
class Bench:
    """A contender and what it is measured with."""

    contender: Contender
    material: Material
    job: Job
    encoder_ms: list[float] = field(default_factory=list)
    """What the network took each time that a picture was embedded for prompts."""

    @property
    def is_ours(self) -> bool:
        """Whether it is fastseg, which is never cut short."""
        return self.job.contender in OURS

    def work(self, row: Row) -> Work:
        """What a row of a SAM-shaped model asks for."""
        if row.work in ("everything", "file"):
            return self.search(row)
        picture = read(self.material.photograph(PROMPTS_ON))

        def embed() -> int:
            self.contender.embed(picture)
            self.encoder_ms.append(self.contender.encoder_ms)
            return 0

        if row.work == "embedding":
            return Work(embed)
        # Prompts of several rows are given on one embedding.
        ready = int if self.encoder_ms else embed
        if row.work == "mask":
            somewhere = iter(spread_points(4096, picture.shape[:2])[::17].tolist() * 4)
            return Work(lambda: self.contender.segment(np.array([next(somewhere)])), ready)
        points = spread_points(row.amount, picture.shape[:2])
        if not self.cut_short(row.amount):
            return Work(lambda: self.contender.segment(points), ready)
        some = SHORT_BATCHES * PROMPTS_AT_ONCE
        part, times = points[:: row.amount // some][:some], row.amount / some
        how = f"{some} prompts, extrapolated linearly"
        return Work(lambda: self.contender.segment(part), ready, lambda ms: ms * times, how)

    def search(self, row: Row) -> Work:
        """Everything mode, from an array or from a file."""
        thresholds = self.material.thresholds(row.model)
        file = self.material.photograph(row.amount)
        picture: Any = file if row.work == "file" else read(file)
        search = Search(point_grid(SIDE), thresholds)
        if self.is_ours:
            return Work(lambda: self.contender.everything(picture, search))
        fits = FULL_SIZE_BYTES // (3 * 4 * row.amount * 10**6)
        at_once = min(PROMPTS_AT_ONCE, 2 ** int(np.log2(fits)))
        how = [] if at_once == PROMPTS_AT_ONCE else [f"{at_once} prompts at once"]
        search = replace(search, at_once=at_once)
        if not self.cut_short(SIDE**2):
            return Work(lambda: self.contender.everything(picture, search), how=", ".join(how))
        some = SHORT_BATCHES * at_once
        part = replace(search, grid=search.grid[:: SIDE**2 // some][:some])

        def whole(ms: float) -> float:
            embed = self.contender.embed_ms
            return embed + (ms - embed) * SIDE**2 / some

        how.append(f"{some} of {SIDE**2} prompts, extrapolated linearly")
        return Work(
            lambda: self.contender.everything(picture, part), whole=whole, how=", ".join(how)
        )

    def cut_short(self, prompts: int) -> bool:
        """Whether fewer prompts stand for these."""
        return self.job.short and not self.is_ours and prompts == SIDE**2


def read(file: Path) -> NDArray[np.uint8]:
    """A picture of any size as an array."""
    return fastseg.read_image(file, max_pixels=None)


def measure(row: Row, work: Work, ran: str, job: Job) -> Cell:
    """Repeat the work of a row and note the worst moment of its memory."""
    made: list[int] = []
    took: list[float] = []

    def once() -> dict[str, float]:
        start = time.perf_counter()
        made.append(work.run())
        took.append(work.whole(1e3 * (time.perf_counter() - start)))
        return {"call": took[-1]}

    work.prepare()
    with peak_memory() as memory:
        repeated = repeat(row.name, once, row.rule)
    return Cell(
        row=row.name,
        contender=job.contender,
        threads=job.threads,
        rounds_ms=[ms / row.per for ms in repeated.stages["call"].rounds.tolist()],
        peak_bytes=memory.peak if memory.known else None,
        masks=made[-1] if not work.how.endswith("linearly") else None,
        ran=ran,
        how=work.how,
        about=about(),
    )


def sam_cells(rows: list[Row], job: Job, material: Material) -> None:
    """Measure a SAM-shaped model."""
    contender = load(job.contender, rows[0].model, material, job.threads)
    bench = Bench(contender, material, job)
    # Everything that is loaded when it is first needed is loaded now.
    small = read(material.photograph(1))[:64, :64].copy()
    contender.everything(small, Search(point_grid(1), material.thresholds(rows[0].model)))
    with peak_memory() as loaded:
        pass
    for row in rows:
        work = bench.work(row)
        cell = measure(row, work, contender.ran, job).above(loaded.before)
        if row.work in ("everything", "file"):
            cell = replace(cell, stages_ms=contender.stages_ms)
        job.store.keep(cell)
        if row.work == "embedding":
            alone = bench.encoder_ms[-len(cell.rounds_ms) :]
            job.store.keep(replace(cell, row=Row(row.model, "encoder").name, rounds_ms=alone))


def frame_cells(rows: list[Row], job: Job, material: Material) -> None:
    """Measure a network for frames."""
    run, ran = frame_contenders.load(job.contender, rows[0].model, material, job.threads)
    frames = material.frames()
    run(frames[:1])
    with peak_memory() as loaded:
        pass
    for row in rows:
        some = frames[: row.amount]
        cell = measure(row, Work(partial(run, some)), ran, job)
        job.store.keep(cell.above(loaded.before))


def main(words: str) -> None:
    """Measure what a job names; its rows are of one model."""
    job = Job.from_json(words)
    # The encoder's time comes with the embedding's.
    wanted = {name.replace("/encoder", "/embedding") for name in job.rows}
    rows = [row for row in ROWS if row.name in wanted]
    material = Material(job.folder / "material")
    cells = sam_cells if rows[0].model in ("vit-b", "sam-nano") else frame_cells
    cells(rows, job, material)


if __name__ == "__main__":
    main(sys.argv[1])
