"""``fastseg cohort``: many images with their prompts, resumed where they were interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fastseg import cohort as cohorts
from fastseg.cli.arguments import (
    ImageArguments,
    ModelArguments,
    image_options,
    into,
    json_option,
    model_options,
)
from fastseg.cli.everything import grid_options
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report, failure_line, print_error
from fastseg.cohort.report import Counts
from fastseg.cohort.tasks import TASKS
from fastseg.errors import FastsegError
from fastseg.imaging import WINDOWS
from fastseg.loading import load_sam
from fastseg.sam.model import Sam

LINE_EVERY_S = 30.0
"""Seconds between two lines of progress where stderr is no terminal."""


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ImageArguments):
    """Options of ``fastseg cohort``; those of everything mode are in ``grid``."""

    sources: tuple[str, ...]
    task: str
    out: Path
    resume: bool
    num_parts: int
    part_id: int
    fail_fast: bool
    window: str | None
    multimask: bool
    best: bool
    grid: dict[str, Any]

    def load(self) -> Sam:
        """Load the model, with the limit on the size of images."""
        return load_sam(self.model, self.choice, max_pixels=self.limit)

    def settings(self) -> dict[str, Any]:
        """Return the settings of the task."""
        window = {} if self.window is None else {"window": self.window}
        if self.task == "everything":
            return {**self.grid, **window}
        return {"multimask": self.multimask, "best": self.best, **window}


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--task", type=click.Choice(TASKS), required=True, help="What is done with an image.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the journal and the results, which appear one by one.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the cohort in --out: keep what is there by its hash, and do the rest.",
)
@click.option(
    "--num-parts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Parts that the cohort is shared out to, one a process.",
)
@click.option(
    "--part-id",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The part to do, from 0.",
)
@click.option(
    "--fail-fast/--keep-going",
    default=False,
    show_default=True,
    help="End after the first image that fails, or go on.",
)
@click.option(
    "--window",
    metavar="WINDOW",
    help="Values that are seen of medical files, where the manifest names none: "
    f"{', '.join(WINDOWS)}, or CENTRE,WIDTH. Default: the file's own.",
)
@click.option(
    "--multimask/--single",
    default=True,
    show_default=True,
    help="Predict three masks for each prompt, or one (segment).",
)
@click.option("--best", is_flag=True, help="Keep the best mask of each prompt (segment).")
@grid_options
@image_options
@model_options
@json_option
@into(Arguments, rest="grid")
def cohort(arguments: Arguments) -> Report:
    """Segment a cohort: SOURCES are manifests (.csv, .jsonl), folders, globs or images.

    Each image is one result file and one line of the journal. After an interruption, --resume goes
    on where it was. The settings of everything mode hold for --task everything.
    """
    items = cohorts.read_items(arguments.sources)
    part = items[arguments.part_id :: arguments.num_parts]
    counts, failures = Counts(len(part)), []
    with arguments.load() as model, progress(len(part)) as step:
        tell = _Teller(counts)
        try:
            for outcome in _run(items, model, arguments):
                counts.add(outcome.item.key, outcome.status, outcome.seconds, outcome.error)
                step(counts.line())
                tell.line()
                if outcome.error is not None:
                    error = FastsegError(outcome.error["message"])
                    failures.append(failure_line(outcome.item.key, error))
        except (KeyboardInterrupt, FastsegError):
            print_error(f"{counts.line()}; --resume goes on with the rest")
            raise
        body = {
            **model.provenance(),
            "task": arguments.task,
            "settings": arguments.settings(),
            "items": counts.items,
            "done": counts.done,
            "kept": counts.kept,
            "failed": len(counts.failures),
            "failures": counts.failures,
            "out": str(arguments.out),
        }
    text = [
        f"{counts.items} items: {counts.done} done, {counts.kept} kept, "
        f"{len(counts.failures)} failed, {counts.items - counts.finished} left",
        f"{counts.rate:.2f} items/s; results in {arguments.out}",
    ]
    code = SOME_FAILED if counts.failures else DONE
    return Report("cohort", body, text, code, failures)


def _run(items: list[cohorts.Item], model: Sam, arguments: Arguments) -> Iterator[cohorts.Outcome]:
    return cohorts.run(
        items,
        model,
        out=arguments.out,
        task=arguments.task,
        settings=arguments.settings(),
        resume=arguments.resume,
        num_parts=arguments.num_parts,
        part_id=arguments.part_id,
        fail_fast=arguments.fail_fast,
    )


class _Teller:
    """Lines of progress for a log, where stderr is no terminal."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._next = time.monotonic() + LINE_EVERY_S

    def line(self) -> None:
        """Print a line if it is time."""
        if sys.stderr is None or sys.stderr.isatty() or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_EVERY_S
        print_error(self._counts.line())
