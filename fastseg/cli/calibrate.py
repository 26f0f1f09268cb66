"""``fastseg calibrate``: find the fastest configuration that gives the masks of FP32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
from rich.console import RenderableType

from fastseg import artifacts, environment
from fastseg.artifacts import registry
from fastseg.cli.arguments import DEFAULT_MODEL, into, json_option
from fastseg.cli.progress import progress
from fastseg.cli.report import Report, Table
from fastseg.inference import tuned_plans
from fastseg.inference.tuned_plans import Candidate, TunedPlan
from fastseg.validation import autotune
from fastseg.validation.autotune import LEAST_GAIN
from fastseg.validation.comparison import AUTOTUNE


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Arguments of ``fastseg calibrate``."""

    model: str
    threads: int
    forget: bool


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Processor threads that MODEL is loaded with later. Default: every usable core.",
)
@click.option("--forget", is_flag=True, help="Delete the saved result and go back to FP32.")
@json_option
@into(Arguments)
def calibrate(arguments: Arguments) -> Report:
    """Find the fastest configuration of MODEL on this processor that gives the masks of FP32.

    This takes about a minute for the embedded model. The result is saved in the user's cache
    folder, and later runs use it unless they name a backend or precision. Calibrate again after a
    change of processor, versions or model, or for another number of threads.
    """
    folder = artifacts.read(registry.find(arguments.model))
    name = folder.manifest.name
    if arguments.forget:
        tuned_plans.forget(folder, threads=arguments.threads)
        gone = f"Deleted: {name} runs in FP32 again, unless a backend or precision is named."
        return Report("calibrate", {"model": name, "verdict": None}, (gone,))
    with progress(None) as step:
        found = autotune.autotune(folder, threads=arguments.threads, progress=step)
    problem = tuned_plans.keep(folder, found, threads=arguments.threads)
    body = {
        "model": name,
        "verdict": found.as_dict(),
        "kept": not problem,
        "problem": problem,
        "limits": {
            "mask_iou_mean": AUTOTUNE.kept_mean_iou,
            "mask_iou_min": AUTOTUNE.kept_min_iou,
            "masks_astray": AUTOTUNE.count_change,
            "speed": LEAST_GAIN,
        },
    }
    return Report("calibrate", body, tuple(_text(name, found, problem)))


def _text(name: str, found: TunedPlan, problem: str) -> Iterator[RenderableType]:
    yield environment.line() + "\n"
    table = Table("graphs", "configuration", box=None, pad_edge=False)
    for heading in ("speed", "mean IoU", "least IoU", "masks", "result"):
        table.add_column(heading, justify="left" if heading == "result" else "right")
    for candidate in found.candidates:
        table.add_row(*_row(candidate))
    yield table
    yield (
        "speed: relative to the best configuration so far. IoU: of the masks that FP32 keeps on a "
        "photograph and generated scenes. masks: kept, of those that FP32 keeps.\n"
    )
    yield from _result(name, found)
    yield (
        f"Not saved, so {name} still runs in FP32: {problem}"
        if problem
        else "Saved: later runs use it. --forget undoes this."
    )


def _result(name: str, found: TunedPlan) -> Iterator[str]:
    """Name each change that passed, and the configuration of every graph from now on."""
    passed = [candidate for candidate in found.candidates if not candidate.refused]
    for candidate in passed:
        where = " and ".join(dict.fromkeys(candidate.runs.values()))
        yield (
            f"Result: {', '.join(candidate.runs)} on {where}, {candidate.speed:.2f}x as fast, "
            "masks as in FP32."
        )
    if not passed:
        yield "Result: no faster configuration gives the masks of FP32, so FP32 stays."
    for graph, backend in found.backends.items():
        yield f"  {name} {graph}: {backend} {found.precisions[graph]}"


def _row(candidate: Candidate) -> tuple[str, ...]:
    mean, least, masks = "", "", ""
    if candidate.mask_iou_mean is not None and candidate.mask_iou_min is not None:
        mean, least = f"{candidate.mask_iou_mean:.4f}", f"{candidate.mask_iou_min:.4f}"
    if candidate.masks:
        masks = f"{candidate.masks_kept} of {candidate.masks}"
    return (
        "\n".join(candidate.runs),
        "\n".join(dict.fromkeys(candidate.runs.values())),
        f"{candidate.speed:.2f}x",
        mean,
        least,
        masks,
        candidate.refused or "passed",
    )
