"""``fastseg evaluate``: models judged on data with truth, by the protocols of the studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import RenderableType

from fastseg import environment, provenance
from fastseg.cli.arguments import DEFAULT_MODEL, into, json_option, runtime_options
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report, Table
from fastseg.errors import BackendError, OutputError, PromptError
from fastseg.evaluation import report as reports
from fastseg.evaluation.aggregation import Aggregate
from fastseg.evaluation.dataset import Dataset, ViewSettings, read_dataset
from fastseg.evaluation.dataset.example import Intensity
from fastseg.evaluation.journal import SUFFIX, Journal
from fastseg.evaluation.prompts import Rounding
from fastseg.evaluation.protocols import Boxes, Centroid, Everything, Modes, Points, Protocol
from fastseg.evaluation.protocols.base import SLOTS, Slot
from fastseg.evaluation.protocols.boxes import Overlap
from fastseg.evaluation.runner import Outcome
from fastseg.evaluation.runner import evaluate as run_protocol
from fastseg.evaluation.summary import Summary, summarise
from fastseg.inference.sessions import Choice
from fastseg.inputs.text import printable
from fastseg.loading import load_sam
from fastseg.ops import Metric
from fastseg.storage.paths import is_folder, real_path, user_path
from fastseg.storage.staging import is_taken

Command = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options that every protocol has."""

    data: Path
    model: tuple[str, ...]
    out: Path | None
    overwrite: bool
    resume: bool
    page: bool
    seed: int
    window: str | None
    spacing: tuple[float, float] | None
    intensity: Intensity | None
    device: str
    backend: str
    precision: str
    threads: int

    @property
    def choice(self) -> Choice:
        """Device, backend, precision and threads, as the loaders take them."""
        return Choice(self.device, self.backend, self.precision, self.threads)

    def view(self, protocol: Protocol) -> ViewSettings:
        """Return how files become images, by the protocol's rule where none is given."""
        return ViewSettings(self.window, self.intensity or protocol.intensity, self.spacing)


@click.group()
def evaluate() -> None:
    """Judge models on data with truth, by the protocols of published studies.

    DATA is a folder with images and masks of equal names (PNG, TIFF, NIfTI, NRRD, DICOM with SEG),
    a COCO file (.json), or a CSV of pairs (image, mask, class, value, domain). Several --model are
    put side by side. --out gets scores.csv, times.csv, summary.json and report.html.
    """


def shared_options(command: Command) -> Command:
    """Add DATA and the options of ``Arguments``."""
    for option in (
        json_option,
        runtime_options,
        click.option(
            "--intensity",
            type=click.Choice(get_args(Intensity)),
            help="Levels as in the file, or divided by the maximum of each image. Default: as the "
            "study has it.",
        ),
        click.option(
            "--spacing",
            nargs=2,
            type=click.FloatRange(min=0, min_open=True),
            help="Height and width of a pixel in mm, instead of the file's.",
        ),
        click.option("--window", help="Values that are seen, as for fastseg segment."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
        click.option(
            "--page/--no-page",
            default=True,
            show_default=True,
            help="Write report.html, which needs the extra report.",
        ),
        click.option("--resume", is_flag=True, help="Go on with a run that was interrupted."),
        click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation in --out."),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help="Folder for the results; it appears once it is complete. Default: print only.",
        ),
        click.option(
            "--model",
            multiple=True,
            default=(DEFAULT_MODEL,),
            show_default=True,
            help="Name of an embedded model, or a model folder; may be given several times.",
        ),
        click.argument("data", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def slot_option(protocol: type[Protocol]) -> Callable[[Command], Command]:
    """Add ``--slot``, with the protocol's own order as default."""
    return click.option(
        "--slot",
        "slots",
        multiple=True,
        type=click.Choice(SLOTS),
        default=getattr(protocol, "slots"),  # noqa: B009 - not every protocol has the field
        show_default=True,
        help="Mask of the three that is scored; may be given several times. Figures show the "
        "first.",
    )


_metric = click.option(
    "--distance",
    type=click.Choice(get_args(Metric)),
    default=Points.distance,
    show_default=True,
    help="Metric of depth: chamfer is that of the authors.",
)


@dataclass(frozen=True, kw_only=True)
class PointsArguments(Arguments):
    """Options of ``fastseg evaluate points``."""

    count: int
    slots: tuple[Slot, ...]
    neg_label: Any
    distance: Metric
    empty_error: Any


@evaluate.command()
@shared_options
@click.option(
    "--count", type=click.IntRange(1, 100), default=9, show_default=True, help="Points an object."
)
@slot_option(Points)
@click.option(
    "--neg-label",
    type=click.Choice(("raw", "class")),
    default=Points.neg_label,
    show_default=True,
    help="A point is background where the label map is empty (raw, as published), or where this "
    "object is not (class).",
)
@_metric
@click.option(
    "--empty-error",
    type=click.Choice(("random", "stop")),
    default=Points.empty_error,
    show_default=True,
    help="After a perfect mask: a point anywhere, or none.",
)
@into(PointsArguments)
def points(arguments: PointsArguments) -> Report:
    """Place a point in the deepest pixel, then in the deepest error, and so on (Mazurowski)."""
    return _evaluate(arguments, _protocol(Points, arguments))


@dataclass(frozen=True, kw_only=True)
class ModesArguments(Arguments):
    """Options of ``fastseg evaluate modes``."""

    slots: tuple[Slot, ...]
    distance: Metric


@evaluate.command()
@shared_options
@slot_option(Modes)
@_metric
@into(ModesArguments)
def modes(arguments: ModesArguments) -> Report:
    """Prompt objects of several parts in five ways, by points and by boxes (Mazurowski)."""
    return _evaluate(arguments, _protocol(Modes, arguments))


@dataclass(frozen=True, kw_only=True)
class CentroidArguments(Arguments):
    """Options of ``fastseg evaluate centroid``."""

    slots: tuple[Slot, ...]
    instance: Any
    centroid_round: Rounding


@evaluate.command()
@shared_options
@slot_option(Centroid)
@click.option(
    "--instance",
    type=click.Choice(("class_mask", "component")),
    default=Centroid.instance,
    show_default=True,
    help="One point for the whole object, or for each of its parts.",
)
@click.option(
    "--centroid-round",
    type=click.Choice(get_args(Rounding)),
    default=Centroid.centroid_round,
    show_default=True,
    help="Rounding of the point.",
)
@into(CentroidArguments)
def centroid(arguments: CentroidArguments) -> Report:
    """Place one point in the centroid, also where that is outside of the object (Shi)."""
    return _evaluate(arguments, _protocol(Centroid, arguments))


@dataclass(frozen=True, kw_only=True)
class BoxesArguments(Arguments):
    """Options of ``fastseg evaluate boxes``."""

    margins: tuple[float, ...]
    margin_unit: Any
    jitter: float
    slots: tuple[Slot, ...]
    tolerance: float
    unit: Any
    label_conflict: Overlap


@evaluate.command()
@shared_options
@click.option(
    "--margin",
    "margins",
    multiple=True,
    type=click.FloatRange(min=0),
    default=Boxes.margins,
    show_default=True,
    help="Distance from the object to the box; may be given several times.",
)
@click.option(
    "--margin-unit",
    type=click.Choice(("image", "model")),
    default=Boxes.margin_unit,
    show_default=True,
    help="Pixels of the image, or of the model's square (MedSAM's 20 are of 1024).",
)
@click.option(
    "--jitter", type=click.FloatRange(min=0), default=0.0, help="Move each side by up to this much."
)
@slot_option(Boxes)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=Boxes.tolerance,
    show_default=True,
    help="Distance that surface Dice forgives.",
)
@click.option(
    "--unit",
    type=click.Choice(("px", "mm")),
    default=Boxes.unit,
    show_default=True,
    help="Unit of --tolerance and of HD95.",
)
@click.option(
    "--label-conflict",
    type=click.Choice(get_args(Overlap)),
    default=Boxes.label_conflict,
    show_default=True,
    help="Pixels of several objects: score each mask as it is, later objects win, or drop them.",
)
@into(BoxesArguments)
def boxes(arguments: BoxesArguments) -> Report:
    """Draw a box around each object, and score area and outline (MedSAM); boxes are simulated."""
    return _evaluate(arguments, _protocol(Boxes, arguments))


@dataclass(frozen=True, kw_only=True)
class EverythingArguments(Arguments):
    """Options of ``fastseg evaluate everything``."""

    points_per_side: int
    pred_iou_thresh: float
    stability_score_thresh: float
    box_nms_thresh: float
    crop_n_layers: int
    min_mask_region_area: int


def _grid_options(command: Command) -> Command:
    for one in reversed(fields(Everything)):
        option = "--" + one.name.replace("_", "-")
        help_ = "As for fastseg everything."
        kind = type(one.default)
        command = click.option(
            option, type=kind, default=one.default, show_default=True, help=help_
        )(command)
    return command


@evaluate.command()
@shared_options
@_grid_options
@into(EverythingArguments)
def everything(arguments: EverythingArguments) -> Report:
    """Find everything without a prompt, and count the objects that are among the masks."""
    return _evaluate(arguments, _protocol(Everything, arguments))


def _protocol(kind: type[Protocol], arguments: Arguments) -> Protocol:
    return kind(**{one.name: getattr(arguments, one.name) for one in fields(kind)})


def _evaluate(arguments: Arguments, protocol: Protocol) -> Report:
    if len(set(arguments.model)) != len(arguments.model):
        raise PromptError("a --model is named twice. Name each once.")
    dataset = read_dataset(arguments.data)
    view = arguments.view(protocol)
    _check_out(arguments, dataset)
    journal = _journal(arguments, protocol, dataset, view)
    outcomes = _run_models(arguments, protocol, dataset, view, journal)
    head = {
        "notice": provenance.NOTICE,
        "versions": environment.versions(),
        "machine": environment.machine(),
        "date": environment.machine()["time"],
        "seed": arguments.seed,
        "view": {one.name: getattr(view, one.name) for one in fields(view)},
        "prompts": "simulated from the truth",
    }
    summary = summarise(protocol, dataset.name, outcomes, dataset.faults, head)
    if arguments.out is not None:
        options = {"page": arguments.page, "overwrite": arguments.overwrite}
        reports.write_results(arguments.out, summary, dataset, view, **options)
    if journal is not None:
        journal.remove()
    written = None if arguments.out is None else str(arguments.out)
    body = {**summary.as_dict(), "out": written}
    for name in ("notice", "versions", "published"):
        body.pop(name)
    code = SOME_FAILED if summary.faults else DONE
    text = tuple(_text(summary, written))
    return Report(f"evaluate {protocol.name}", body, text, code, summary.faults)


def _check_out(arguments: Arguments, dataset: Dataset) -> None:
    """Refuse a result folder before anything is computed.

    Raises:
        OutputError: It is taken, or holds something else than an evaluation.
        BackendUnavailableError: The page is asked for without the extra.
    """
    if arguments.out is None:
        return
    if arguments.page:
        with environment.needs_extra("report", "writing report.html (or pass --no-page)"):
            import jinja2  # noqa: F401 - to find out that they are there
            import matplotlib  # noqa: F401
    reports.check_out(arguments.out, [example.path for example in dataset.examples])
    out = user_path(arguments.out)
    if not arguments.overwrite and is_folder(out, OutputError) and is_taken(out):
        raise OutputError(f"{arguments.out}/ is not empty. Use another --out, or --overwrite.")


def _journal(
    arguments: Arguments, protocol: Protocol, dataset: Dataset, view: ViewSettings
) -> Journal | None:
    if arguments.out is None:
        return None
    out = real_path(user_path(arguments.out))
    run = {
        "protocol": protocol.name,
        "settings": protocol.settings(),
        "data": str(real_path(arguments.data)),
        "examples": len(dataset.examples),
        "models": list(arguments.model),
        "precision": [arguments.device, arguments.backend, arguments.precision],
        "seed": arguments.seed,
        "view": [str(getattr(view, one.name)) for one in fields(view)],
        "version": environment.versions()["fastseg"],
    }
    return Journal(out.parent / f".{out.name}{SUFFIX}", run, resume=arguments.resume)


def _run_models(
    arguments: Arguments,
    protocol: Protocol,
    dataset: Dataset,
    view: ViewSettings,
    journal: Journal | None,
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with progress(len(dataset.examples) * len(arguments.model)) as step:
        for name in arguments.model:
            with load_sam(name, arguments.choice, max_pixels=None) as model:
                outcome = run_protocol(
                    protocol,
                    dataset,
                    model,
                    seed=arguments.seed,
                    view=view,
                    journal=journal,
                    progress=step,
                )
            called = _called(str(outcome.model["model"]), outcomes)
            outcomes.append(replace(outcome, model={**outcome.model, "model": called}))
    if not any(outcome.rows for outcome in outcomes):
        faults = [fault for outcome in outcomes for fault in outcome.faults]
        reason = faults[0] if faults else "every truth is empty."
        raise BackendError(f"nothing of {arguments.data} could be evaluated: {reason}")
    return outcomes


def _called(name: str, outcomes: list[Outcome]) -> str:
    """Tell two folders of one model name apart."""
    taken = {str(outcome.model["model"]) for outcome in outcomes}
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _text(summary: Summary, written: str | None) -> Iterator[RenderableType]:
    table = Table("model", "prompt", "mask", "score", box=None, pad_edge=False)
    for heading in ("n", "mean over tasks", "mean", "median", "published"):
        table.add_column(heading, justify="right")
    for condition in summary.conditions:
        for name, scores in condition.scores.items():
            printed = summary.published(condition.variant, condition.slot, name)
            published = "" if printed is None else f"{printed.value:.3f}"
            heads = (condition.model, condition.variant, condition.slot, name)
            table.add_row(*heads, *_numbers(scores), published)
    yield table
    images = {image for outcome in summary.outcomes for image in outcome.milliseconds}
    yield (
        f"\n{len(images)} images, {len(summary.faults)} not evaluated, "
        f"{len(summary.left_out)} empty truths left out. Prompts are simulated from the truth."
    )
    if any(
        summary.published(one.variant, one.slot, n)
        for one in summary.conditions
        for n in one.scores
    ):
        yield f"published: {summary.protocol.source}, on other data"
    if written is not None:
        yield f"results in {printable(written)}"


def _numbers(scores: Aggregate) -> tuple[str, ...]:
    spread = scores.over_samples
    return str(spread.n), *(f"{v:.3f}" for v in (scores.over_tasks, spread.mean, spread.median))
