"""``fastseg compare``: one model run in two ways, and how far apart the answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from fastseg import artifacts, environment
from fastseg.artifacts import ModelFolder, registry
from fastseg.cli.arguments import into, json_option, needs_extra
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report
from fastseg.images import read_image
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison, probes
from fastseg.validation.comparison import Limits, Way
from fastseg.validation.probes import Answer, Question


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What ``fastseg compare`` was asked for."""

    model: str
    a: str
    b: str
    checkpoint: Path | None
    image: tuple[Path, ...]
    max_relative: float | None
    min_iou: float | None
    mean_iou: float | None
    count_change: float | None
    device: str
    threads: int


@click.command()
@click.argument("model")
@click.option("--a", required=True, help="BACKEND:PRECISION that is measured against.")
@click.option("--b", required=True, help="BACKEND:PRECISION that is measured.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="The weights that torch:fp32 runs, as plain torch modules.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A picture to compare on; may be given many times. Generated ones if left out.",
)
@click.option(
    "--max-relative",
    type=click.FloatRange(min=0),
    help="Largest relative error of any tensor that passes; 1e-4 between two ways in fp32.",
)
@click.option(
    "--min-iou",
    type=click.FloatRange(0, 1),
    help="Smallest IoU of a mask with its counterpart that passes; 0.99 between two in fp32.",
)
@click.option(
    "--mean-iou",
    type=click.FloatRange(0, 1),
    help="Smallest mean IoU that passes; with another precision 0.99, for frames 0.995.",
)
@click.option(
    "--count-change",
    type=click.FloatRange(min=0),
    help="Largest change of the number of masks kept, as a part of it; 0.05 but in fp32.",
)
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:1.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0 is every usable core.")
@json_option
@into(Arguments)
def compare(arguments: Arguments) -> Report:
    """Run MODEL in two ways on the same pictures and prompts, and compare what comes out.

    A model that takes prompts is asked for clicks, boxes and masks; one for frames, for all
    chambers. Beside the backends, torch runs the checkpoint's own network, and rounded runs fp16
    graphs on the CPU with every rounding that a GPU would do. Ends with 1 if the two are further
    apart than the limits allow. Limits that are given take the place of the usual ones.
    """
    ways = (Way.parse(arguments.a), Way.parse(arguments.b))
    pictures = [read_image(image) for image in arguments.image]
    folder = artifacts.read(registry.find(arguments.model))
    manifest = folder.manifest
    asked = [probes.ask(manifest, one) for one in pictures or comparison.samples(manifest)]
    answers = []
    with progress(len(ways)) as step:
        for way in ways:
            step(str(way))
            answers.append(_answers(way, folder, asked, arguments))
    found = comparison.compare(*answers)
    a, b = (
        {"backend": one.backend, "device": one.device, "precision": one.precision}
        for one, *_ in answers
    )
    limits = _limits(arguments, manifest.family, (a["precision"], b["precision"]))
    passed = found.within(limits)
    names = [str(image) for image in arguments.image] or ["generated"]
    about = {"model": manifest.name, "images": names, "a": a, "b": b}
    body = {**about, "limits": limits.as_dict(), "passed": passed, **found.as_dict()}
    text = (
        f"{manifest.name}: {' '.join(b.values())} against {' '.join(a.values())}, "
        f"{found.masks} masks on {found.pictures} pictures ({', '.join(names)})",
        environment.line() + "\n",
        found.told(limits),
    )
    return Report("compare", body, text, DONE if passed else SOME_FAILED)


def _limits(arguments: Arguments, family: str, precisions: tuple[str, str]) -> Limits:
    given = Limits(
        arguments.max_relative, arguments.min_iou, arguments.mean_iou, arguments.count_change
    )
    return given if given.as_dict() else Limits.between(family, precisions)


def _answers(
    way: Way, folder: ModelFolder, asked: Sequence[Question], arguments: Arguments
) -> Sequence[Answer]:
    if way.backend == "torch":
        return _run_torch(way, folder, asked, arguments.checkpoint)
    if way.backend == "rounded":
        return _run_rounded(way, folder, asked)
    choice = Choice(
        arguments.device, way.backend, way.precision, arguments.threads, allow_uncompared=True
    )
    return probes.answer_all(folder, choice, asked)


def _run_torch(
    way: Way, folder: ModelFolder, asked: Sequence[Question], checkpoint: Path | None
) -> Sequence[Answer]:
    if checkpoint is None:
        raise click.UsageError("torch runs a checkpoint, which --checkpoint must name")
    if way.precision not in ("auto", "fp32"):
        raise click.UsageError(f"torch runs in fp32, not in {way.precision}")
    with needs_extra("export"):
        from fastseg.export.reference import torch_network
    network = torch_network(folder.manifest, checkpoint)
    return [network.answer(question) for question in asked]


def _run_rounded(way: Way, folder: ModelFolder, asked: Sequence[Question]) -> Sequence[Answer]:
    if way.precision not in ("auto", "fp16"):
        raise click.UsageError(f"rounded runs fp16 graphs, not {way.precision}")
    with needs_extra("export"):
        from fastseg.export.fp16.convert import spelled_out
    with spelled_out(folder) as graphs:
        found = [probes.answer(graphs, question, "fp16") for question in asked]
    return [replace(one, backend="rounded") for one in found]
