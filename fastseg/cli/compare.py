"""``fastseg compare``: the outputs of two configurations of one model, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from fastseg import artifacts, environment
from fastseg.artifacts import ModelFolder, registry
from fastseg.cli.arguments import into, json_option
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report
from fastseg.environment import needs_extra
from fastseg.images import read_image
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison, probes
from fastseg.validation.comparison import Configuration, Limits
from fastseg.validation.probes import ModelOutputs, Probe


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Arguments of ``fastseg compare``."""

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
@click.option("--a", required=True, help="The reference, as BACKEND:PRECISION: onnxruntime:fp32.")
@click.option("--b", required=True, help="The side that is measured: openvino:bf16.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="The checkpoint that torch:fp32 runs.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Image to compare on; may be given several times. Default: generated images.",
)
@click.option(
    "--max-relative",
    type=click.FloatRange(min=0),
    help="Largest relative error of any tensor. Default: 1e-4 if both sides are fp32.",
)
@click.option(
    "--min-iou",
    type=click.FloatRange(0, 1),
    help="Smallest IoU of any mask with its counterpart. Default: 0.99 if both sides are fp32.",
)
@click.option(
    "--mean-iou",
    type=click.FloatRange(0, 1),
    help="Smallest mean IoU of all masks. Default: 0.99, or 0.995 for ultrasound models, if a side "
    "is not fp32.",
)
@click.option(
    "--count-change",
    type=click.FloatRange(min=0),
    help="Largest change of the number of masks kept: 0.05 is 5 %. Default: 0.05 if a side is not "
    "fp32.",
)
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:1.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0 is every usable core.")
@json_option
@into(Arguments)
def compare(arguments: Arguments) -> Report:
    """Compare two configurations of MODEL on the same images and prompts.

    Write each side as BACKEND:PRECISION, as in onnxruntime:fp32. The backends are those of
    "fastseg doctor", and two more: torch runs the network of --checkpoint, and rounded runs fp16
    graphs on the CPU with the rounding of a GPU.

    SAM models are run with points, boxes and masks, ultrasound models on whole frames. The exit
    code is 1 if the two sides differ by more than the limits. Limits that are given replace all
    defaults.
    """
    sides = (Configuration.parse(arguments.a), Configuration.parse(arguments.b))
    images = [read_image(image) for image in arguments.image]
    folder = artifacts.read(registry.find(arguments.model))
    manifest = folder.manifest
    asked = [probes.build_probe(manifest, one) for one in images or comparison.samples(manifest)]
    outputs = []
    with progress(len(sides)) as step:
        for side in sides:
            step(str(side))
            outputs.append(_run(side, folder, asked, arguments))
    found = comparison.compare(*outputs)
    a, b = (
        {"backend": one.backend, "device": one.device, "precision": one.precision}
        for one, *_ in outputs
    )
    limits = _limits(arguments, manifest.family, (a["precision"], b["precision"]))
    passed = found.within(limits)
    names = [str(image) for image in arguments.image] or ["generated"]
    about = {"model": manifest.name, "images": names, "a": a, "b": b}
    body = {**about, "limits": limits.as_dict(), "passed": passed, **found.as_dict()}
    text = (
        f"{manifest.name}: {' '.join(b.values())} against {' '.join(a.values())}, "
        f"{found.masks} masks on {found.images} images ({', '.join(names)})",
        environment.line() + "\n",
        found.summary(limits),
    )
    return Report("compare", body, text, DONE if passed else SOME_FAILED)


def _limits(arguments: Arguments, family: str, precisions: tuple[str, str]) -> Limits:
    given = Limits(
        arguments.max_relative, arguments.min_iou, arguments.mean_iou, arguments.count_change
    )
    return given if given.as_dict() else Limits.between(family, precisions)


def _run(
    side: Configuration, folder: ModelFolder, asked: Sequence[Probe], arguments: Arguments
) -> Sequence[ModelOutputs]:
    if side.backend == "torch":
        return _run_torch(side, folder, asked, arguments.checkpoint)
    if side.backend == "rounded":
        return _run_rounded(side, folder, asked)
    choice = Choice(
        arguments.device, side.backend, side.precision, arguments.threads, allow_uncompared=True
    )
    return probes.run_probes(folder, choice, asked)


def _run_torch(
    side: Configuration, folder: ModelFolder, asked: Sequence[Probe], checkpoint: Path | None
) -> Sequence[ModelOutputs]:
    if checkpoint is None:
        raise click.UsageError("torch runs a checkpoint: name it by --checkpoint.")
    if side.precision not in ("auto", "fp32"):
        raise click.UsageError(f"torch runs in fp32, not in {side.precision}. Use torch:fp32.")
    with needs_extra("export"):
        from fastseg.export.reference import torch_network
    network = torch_network(folder.manifest, checkpoint)
    return [network.run(probe) for probe in asked]


def _run_rounded(
    side: Configuration, folder: ModelFolder, asked: Sequence[Probe]
) -> Sequence[ModelOutputs]:
    if side.precision not in ("auto", "fp16"):
        raise click.UsageError(f"rounded runs fp16 graphs, not {side.precision}. Use rounded:fp16.")
    with needs_extra("export"):
        from fastseg.export.fp16.convert import spelled_out
    with spelled_out(folder) as graphs:
        found = [probes.run_probe(graphs, probe, "fp16") for probe in asked]
    return [replace(one, backend="rounded") for one in found]
