"""``fastseg calibrate``: find the fastest way to run a model that gives the masks of FP32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
from rich.console import RenderableType
from rich.table import Table

from fastseg import artifacts, environment
from fastseg.artifacts import registry
from fastseg.cli.arguments import DEFAULT_MODEL, into, json_option
from fastseg.cli.progress import progress
from fastseg.cli.report import Report
from fastseg.inference import tuned_plans
from fastseg.inference.tuned_plans import Trial, Verdict
from fastseg.validation import autotune
from fastseg.validation.autotune import LEAST_GAIN, LEAST_IOU, LEAST_MEAN_IOU, MOST_MASKS_ASTRAY


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What ``fastseg calibrate`` was asked for."""

    model: str
    threads: int
    forget: bool


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Processor threads it is loaded with later; 0 is every core that may be used.",
)
@click.option("--forget", is_flag=True, help="Go back to FP32: forget what was found before.")
@json_option
@into(Arguments)
def calibrate(arguments: Arguments) -> Report:
    """Find the fastest way to run MODEL on this processor that gives the masks of FP32.

    What is found is kept in the user's cache folder, and followed from then on wherever backend and
    precision are left to fastseg. It is measured again after a change of processor, versions or
    model, or with another number of threads.
    """
    folder = artifacts.read(registry.find(arguments.model))
    if arguments.forget:
        tuned_plans.forget(folder, threads=arguments.threads)
        gone = f"{folder.manifest.name} runs in FP32 again, where the choice is left to fastseg."
        return Report("calibrate", {"model": folder.manifest.name, "verdict": None}, (gone,))
    with progress(None) as step:
        found = autotune.search(folder, threads=arguments.threads, progress=step)
    problem = tuned_plans.keep(folder, found, threads=arguments.threads)
    body = {
        "model": folder.manifest.name,
        "verdict": found.as_dict(),
        "kept": not problem,
        "problem": problem,
        "limits": {
            "mask_iou_mean": LEAST_MEAN_IOU,
            "mask_iou_min": LEAST_IOU,
            "masks_astray": MOST_MASKS_ASTRAY,
            "speed": LEAST_GAIN,
        },
    }
    return Report("calibrate", body, tuple(_text(folder.manifest.name, found, problem)))


def _text(name: str, found: Verdict, problem: str) -> Iterator[RenderableType]:
    yield environment.line() + "\n"
    table = Table("graphs", "on", box=None, pad_edge=False)
    for heading in ("speed", "mask IoU (least)", "masks", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    for trial in found.trials:
        table.add_row(*_row(trial))
    yield table
    yield (
        "speed is to the best way before it, in turns; masks are those that FP32 keeps of a "
        "photograph and generated scenes, and the IoUs are over these\n"
    )
    for graph, backend in found.backends.items():
        yield f"{name} {graph}: {backend} {found.precisions[graph]}"
    yield f"\nnot kept, so FP32 stays what is loaded: {problem}" if problem else "\nkept"


def _row(trial: Trial) -> tuple[str, ...]:
    ious, masks = "", ""
    if trial.mask_iou_mean is not None and trial.mask_iou_min is not None:
        ious = f"{trial.mask_iou_mean:.4f} ({trial.mask_iou_min:.4f})"
    if trial.masks:
        masks = f"{trial.masks_kept} of {trial.masks}"
    words = "\n".join(dict.fromkeys(trial.runs.values()))
    last = trial.refused or "taken"
    return "\n".join(trial.runs), words, f"{trial.speed:.2f}x", ious, masks, last
