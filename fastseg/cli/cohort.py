"""``fastseg cohort``: many images with their prompts, resumed where they were interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fastseg import cohort as cohorts
from fastseg.cli.arguments import (
    DEFAULT_MODEL,
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
from fastseg.cohort.tasks.making import Model
from fastseg.cohort.workers import ENGINES
from fastseg.echo.views import VIEWS
from fastseg.errors import FastsegError
from fastseg.imaging import WINDOWS
from fastseg.loading import load_promptable, load_unet


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ImageArguments):
    """Options of ``fastseg cohort``; those of everything mode are in ``grid``."""

    sources: tuple[str, ...]
    task: str
    out: str
    resume: bool
    num_parts: int
    part_id: int
    fail_fast: bool
    window: str | None
    multimask: bool
    best: bool
    more: tuple[tuple[str, str], ...]
    embeddings: Path | None
    engine: str
    workers: int | None
    ray_address: str | None
    worker_cpus: float
    worker_gpus: float
    ray_start: float
    grid: dict[str, Any]

    @contextmanager
    def opened(self) -> Iterator[Model]:
        """Load the model, with the limit on the size of images, and close it at the end.

        Echo files have the embedded networks where no model was named.
        """
        limit = self.limit
        with ExitStack() as stack:
            if self.task != "echo":
                model = load_promptable(self.model, self.choice, max_pixels=limit)
                stack.callback(model.close)
                yield model
            elif self.model != DEFAULT_MODEL:
                yield stack.enter_context(load_unet(self.model, self.choice, max_pixels=limit))
            else:
                yield {
                    view: stack.enter_context(
                        load_unet(f"echo-{view}", self.choice, max_pixels=limit)
                    )
                    for view in VIEWS
                }

    def settings(self) -> dict[str, Any]:
        """Return the settings of the task; values of ``--set`` are JSON, or text that is none."""
        own: dict[str, Any] = {} if self.window is None else {"window": self.window}
        if self.task == "everything":
            own |= self.grid
        elif self.task == "segment":
            own |= {"multimask": self.multimask, "best": self.best}
        for name, value in self.more:
            own[name] = value
            with suppress(ValueError):
                own[name] = json.loads(value)
        return own

    def ray(self) -> cohorts.RaySettings | None:
        """Return the settings of Ray, for its engine."""
        if self.engine != "ray":
            return None
        return cohorts.RaySettings(
            address=self.ray_address,
            cpus=self.worker_cpus,
            gpus=self.worker_gpus,
            start_s=self.ray_start,
        )


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--task", type=click.Choice(TASKS), required=True, help="What is done with an image.")
@click.option(
    "--out",
    required=True,
    metavar="PLACE",
    help="Folder for the journal and the results, which appear one by one; or an address such as "
    "s3://bucket/out.",
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
@click.option(
    "--set",
    "more",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="A setting of propagate, echo or evaluate, as docs/cohorts.md lists them; its value as "
    "JSON or text. May be given several times.",
)
@click.option(
    "--embeddings",
    type=click.Path(path_type=Path),
    help="Folder that keeps the embeddings of images for other runs.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="Run on this machine, or by actors of Ray.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes, each with models of its own, so that an image that crashes one is named and "
    "the others go on; with Ray its actors. Default: threads of this process, or an actor for "
    "each processor.",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="A running Ray cluster with this machine in it, auto or HEAD:6379. Default: Ray is "
    "started here.",
)
@click.option(
    "--ray-start",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds that Ray may take to start here.",
)
@click.option(
    "--worker-cpus",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Processors of an actor of Ray.",
)
@click.option(
    "--worker-gpus",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="GPUs of an actor of Ray; 0.25 lets four share one.",
)
@grid_options
@image_options
@model_options
@json_option
@into(Arguments, rest="grid")
def cohort(arguments: Arguments) -> Report:
    """Do a task on a cohort: SOURCES are manifests (.csv, .jsonl), folders, globs or images.

    Each image is one result and one line of the journal. After an interruption, --resume goes
    on where it was. The settings of everything mode hold for --task everything. The source of
    --task evaluate is a dataset.
    """
    with arguments.opened() as model:
        run = _run(model, arguments)
        counts, failures = Counts(len(run.items)), []
        with progress(counts.items, counted=False) as step:
            try:
                for outcome in run:
                    counts.add(outcome.item.key, outcome.status, outcome.seconds, outcome.error)
                    step(counts.line())
                    if outcome.error is not None:
                        error = FastsegError(outcome.error["message"])
                        failures.append(failure_line(outcome.item.key, error))
            except (KeyboardInterrupt, FastsegError):
                print_error(f"{counts.line()}; --resume goes on with the rest")
                raise
        body = {
            **run.task.provenance(),
            "task": arguments.task,
            "settings": run.task.settings,
            "items": counts.items,
            "done": counts.done,
            "kept": counts.kept,
            "failed": len(counts.failures),
            "failures": counts.failures,
            "out": arguments.out,
        }
    text = [
        f"{counts.items} items: {counts.done} done, {counts.kept} kept, "
        f"{len(counts.failures)} failed, {counts.items - counts.finished} left",
        f"{counts.rate:.2f} items/s; results in {arguments.out}",
    ]
    code = SOME_FAILED if counts.failures else DONE
    return Report("cohort", body, text, code, failures)


def _run(model: Model, arguments: Arguments) -> cohorts.Run:
    return cohorts.run(
        arguments.sources,
        model,
        out=arguments.out,
        task=arguments.task,
        settings=arguments.settings(),
        resume=arguments.resume,
        num_parts=arguments.num_parts,
        part_id=arguments.part_id,
        fail_fast=arguments.fail_fast,
        engine=arguments.engine,
        workers=arguments.workers,
        ray=arguments.ray(),
        embeddings=arguments.embeddings,
    )
