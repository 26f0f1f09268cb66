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
from benchmarks.table.contenders import PROMPTS_AT_ONCE, Contender, MaskGeneration, load
from benchmarks.table.material import Material
from benchmarks.table.rows import OURS, PROMPTS_ON, ROWS, SIDE, TableRow
from benchmarks.table.store import Cell, Job, about
from fastseg.benchmarking.arithmetic import float32_peak
from fastseg.benchmarking.bench import spread_points
from fastseg.benchmarking.peak_memory import peak_memory
from fastseg.benchmarking.repetition import repeat
from fastseg.ops import point_grid

SHORT_BATCHES = 2
"""Batches of prompts that represent all of them where a reference is cut short."""

FULL_SIZE_BYTES = 2 * 10**9
"""Greatest size of a reference's full-size logits of one batch; batches shrink to fit."""


@dataclass(frozen=True)
class Work:
    """A repeated function with its preparation and scale."""

    run: Callable[[], int]
    """Function to time; returns the number of masks."""

    prepare: Callable[[], object] = lambda: None
    """Function to call once before the repetitions."""

    whole: Callable[[float], float] = float
    """Map from the milliseconds of a round to those of the table."""

    how: str = ""


@dataclass(frozen=True)
class Bench:
    """A contender with the inputs and the job of its measurement."""

    contender: Contender
    material: Material
    job: Job
    encoder_ms: list[float] = field(default_factory=list)
    """Milliseconds of the network for each embedding for prompts."""

    @property
    def is_ours(self) -> bool:
        """True for fastseg, which is never cut short."""
        return self.job.contender in OURS

    def work(self, row: TableRow) -> Work:
        """Return the work of a row of a SAM-shaped model."""
        if row.work in ("everything", "file"):
            return self.mask_generation(row)
        image = read(self.material.photograph(PROMPTS_ON))

        def embed() -> int:
            self.contender.embed(image)
            self.encoder_ms.append(self.contender.encoder_ms)
            return 0

        if row.work == "embedding":
            return Work(embed)
        # Prompts of several rows are given on one embedding.
        ready = int if self.encoder_ms else embed
        if row.work == "mask":
            somewhere = iter(spread_points(4096, image.shape[:2])[::17].tolist() * 4)
            return Work(lambda: self.contender.segment(np.array([next(somewhere)])), ready)
        points = spread_points(row.amount, image.shape[:2])
        if not self.cut_short(row.amount):
            return Work(lambda: self.contender.segment(points), ready)
        some = SHORT_BATCHES * PROMPTS_AT_ONCE
        part, times = points[:: row.amount // some][:some], row.amount / some
        how = f"{some} prompts, extrapolated linearly"
        return Work(lambda: self.contender.segment(part), ready, lambda ms: ms * times, how)

    def mask_generation(self, row: TableRow) -> Work:
        """Return the work of everything mode, from an array or from a file."""
        thresholds = self.material.thresholds(row.model)
        file = self.material.photograph(row.amount)
        image: Any = file if row.work == "file" else read(file)
        request = MaskGeneration(point_grid(SIDE), thresholds)
        if self.is_ours:
            return Work(lambda: self.contender.everything(image, request))
        fits = FULL_SIZE_BYTES // (3 * 4 * row.amount * 10**6)
        at_once = min(PROMPTS_AT_ONCE, 2 ** int(np.log2(fits)))
        how = [] if at_once == PROMPTS_AT_ONCE else [f"{at_once} prompts at once"]
        request = replace(request, at_once=at_once)
        if not self.cut_short(SIDE**2):
            return Work(lambda: self.contender.everything(image, request), how=", ".join(how))
        some = SHORT_BATCHES * at_once
        part = replace(request, grid=request.grid[:: SIDE**2 // some][:some])

        def whole(ms: float) -> float:
            embed = self.contender.embed_ms
            return embed + (ms - embed) * SIDE**2 / some

        how.append(f"{some} of {SIDE**2} prompts, extrapolated linearly")
        return Work(lambda: self.contender.everything(image, part), whole=whole, how=", ".join(how))

    def cut_short(self, prompts: int) -> bool:
        """Return True if fewer prompts represent these."""
        return self.job.short and not self.is_ours and prompts == SIDE**2


def read(file: Path) -> NDArray[np.uint8]:
    """Read an image of any size as an array."""
    return fastseg.read_image(file, max_pixels=None)


def measure(row: TableRow, work: Work, ran: str, job: Job) -> Cell:
    """Repeat the work of a row and record its peak memory."""
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
        peak_gflops=float32_peak(job.threads).multiply_add,
    )


def sam_cells(rows: list[TableRow], job: Job, material: Material) -> None:
    """Measure a SAM-shaped model."""
    contender = load(job.contender, rows[0].model, material, job.threads)
    bench = Bench(contender, material, job)
    # Load everything that is loaded lazily.
    small = read(material.photograph(1))[:64, :64].copy()
    contender.everything(small, MaskGeneration(point_grid(1), material.thresholds(rows[0].model)))
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
            job.store.keep(replace(cell, row=TableRow(row.model, "encoder").name, rounds_ms=alone))


def frame_cells(rows: list[TableRow], job: Job, material: Material) -> None:
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
    """Measure the rows of a job, which are of one model."""
    job = Job.from_json(words)
    # The encoder's time comes with the embedding's.
    wanted = {name.replace("/encoder", "/embedding") for name in job.rows}
    rows = [row for row in ROWS if row.name in wanted]
    material = Material(job.folder / "material")
    cells = sam_cells if rows[0].model in ("vit-b", "sam-nano") else frame_cells
    cells(rows, job, material)


if __name__ == "__main__":
    main(sys.argv[1])
