"""``fastseg compare``: one model run in two ways, and how far apart the answers are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from fastseg import artifacts, circumstances, comparison, registry
from fastseg.artifacts import ModelFolder
from fastseg.backends.engine_store import on_probation
from fastseg.cli.arguments import into, json_option, needs_extra
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report
from fastseg.comparison import Answer, Question, Way
from fastseg.demo import PICTURE
from fastseg.graphs import Choice
from fastseg.images import read_image


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What ``fastseg compare`` was asked for."""

    model: str
    a: str
    b: str
    checkpoint: Path | None
    image: Path
    max_relative: float
    min_iou: float
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
    default=PICTURE,
    help="The picture to compare on; the demo's if left out.",
)
@click.option(
    "--max-relative",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Largest relative error of the low-resolution logits that passes.",
)
@click.option(
    "--min-iou",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="Smallest IoU of a mask with its counterpart that passes.",
)
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:1.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0 is every usable core.")
@json_option
@into(Arguments)
def compare(arguments: Arguments) -> Report:
    """Run MODEL in two ways on the same clicks and boxes, and compare what comes out.

    Ends with 1 if the two are further apart than the limits allow.
    """
    ways = (Way.parse(arguments.a), Way.parse(arguments.b))
    image = read_image(arguments.image)
    folder = artifacts.read(registry.find(arguments.model))
    question = comparison.ask(image, folder.manifest.picture)
    answers = []
    with progress(len(ways)) as step:
        for way in ways:
            step(str(way))
            answers.append(_answer(way, folder, question, arguments))
    found = comparison.compare(question, *answers)
    limits = {"max_relative": arguments.max_relative, "min_iou": arguments.min_iou}
    passed = found.within(**limits)
    a, b = (
        {"backend": one.backend, "device": one.device, "precision": one.precision}
        for one in answers
    )
    about = {"model": folder.manifest.name, "image": str(arguments.image), "a": a, "b": b}
    body = {**about, "limits": limits, "passed": passed, **found.as_dict()}
    text = (
        f"{folder.manifest.name}: {' '.join(b.values())} against {' '.join(a.values())}, "
        f"{found.prompts} prompts on {arguments.image.name}",
        circumstances.line() + "\n",
        str(found.table),
        f"masks kept by everything mode's filters: {found.kept[0]} and {found.kept[1]}",
        "\nwithin the limits" if passed else "\nNOT within the limits",
    )
    return Report("compare", body, text, DONE if passed else SOME_FAILED)


def _answer(way: Way, folder: ModelFolder, question: Question, arguments: Arguments) -> Answer:
    if way.backend == "torch":
        return _run_torch(way, question, arguments.checkpoint)
    choice = Choice(arguments.device, way.backend, way.precision, arguments.threads)
    # To be compared is what engines are opened for here that do not run otherwise.
    with on_probation():
        return comparison.run_graphs(folder, choice, question)


def _run_torch(way: Way, question: Question, checkpoint: Path | None) -> Answer:
    if checkpoint is None:
        raise click.UsageError("torch runs a checkpoint, which --checkpoint must name")
    if way.precision not in ("auto", "fp32"):
        raise click.UsageError(f"torch runs in fp32, not in {way.precision}")
    with needs_extra("export"):
        from fastseg.export.torch_network import TorchNetwork
    network = TorchNetwork(checkpoint)
    features = network.embed(question.pixels)
    ious, logits = network.decode(features, question.coords, question.labels)
    return Answer(features, ious, logits, "torch", "cpu", "fp32")
