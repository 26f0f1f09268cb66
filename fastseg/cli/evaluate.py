"""``fastseg evaluate``: models judged on data with truth, by the protocols of the studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_args

import click

from fastseg.cli.arguments import into
from fastseg.cli.evaluate_measurements import measurements
from fastseg.cli.evaluation_options import (
    EvaluationArguments,
    metric_option,
    shared_options,
    slot_option,
)
from fastseg.cli.evaluation_run import run_evaluation
from fastseg.cli.report import Report
from fastseg.evaluation.prompts import Rounding
from fastseg.evaluation.protocols import (
    Adapter,
    Boxes,
    Centroid,
    Everything,
    Modes,
    Phases,
    Points,
)
from fastseg.evaluation.protocols.base import Slot
from fastseg.evaluation.protocols.boxes import Overlap
from fastseg.ops import Metric


@click.group()
def evaluate() -> None:
    """Judge models on data with truth, by the protocols of published studies.

    DATA is a folder with images and masks of equal names (PNG, TIFF, NIfTI, NRRD, DICOM with SEG),
    a COCO file (.json), or a CSV of pairs (image, mask, class, value, domain). Several --model are
    put side by side. --out gets scores.csv, times.csv, summary.json and report.html.
    """


@dataclass(frozen=True, kw_only=True)
class PointsArguments(EvaluationArguments):
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
@metric_option
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
    return run_evaluation(Points, arguments)


@dataclass(frozen=True, kw_only=True)
class ModesArguments(EvaluationArguments):
    """Options of ``fastseg evaluate modes``."""

    slots: tuple[Slot, ...]
    distance: Metric


@evaluate.command()
@shared_options
@slot_option(Modes)
@metric_option
@into(ModesArguments)
def modes(arguments: ModesArguments) -> Report:
    """Prompt objects of several parts in five ways, by points and by boxes (Mazurowski)."""
    return run_evaluation(Modes, arguments)


@dataclass(frozen=True, kw_only=True)
class CentroidArguments(EvaluationArguments):
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
    return run_evaluation(Centroid, arguments)


@dataclass(frozen=True, kw_only=True)
class AdapterArguments(EvaluationArguments):
    """Options of ``fastseg evaluate adapter``."""

    classes: tuple[str, ...]
    resolution: Any


@evaluate.command()
@shared_options
@click.option(
    "--class",
    "classes",
    multiple=True,
    help="Class that is scored; may be given several times. Default: all.",
)
@click.option(
    "--resolution",
    type=click.Choice(("image", "model")),
    default=Adapter.resolution,
    show_default=True,
    help="Compare masks at the size of the image, or in the model's square (as SAM-Adapter does).",
)
@into(AdapterArguments)
def adapter(arguments: AdapterArguments) -> Report:
    """Run models that take no prompt, and score a mask for each class (Shi, fine-tuned)."""
    return run_evaluation(Adapter, arguments)


@dataclass(frozen=True, kw_only=True)
class PhasesArguments(EvaluationArguments):
    """Options of ``fastseg evaluate phases``."""

    points: tuple[int, ...]
    resolutions: tuple[int, ...]
    slots: tuple[Slot, ...]


@evaluate.command()
@shared_options
@click.option(
    "--points",
    multiple=True,
    type=click.IntRange(1, 1000),
    default=Phases.points,
    show_default=True,
    help="Points an object; may be given several times.",
)
@click.option(
    "--resolution",
    "resolutions",
    multiple=True,
    type=click.IntRange(16, 4096),
    default=Phases.resolutions,
    show_default=True,
    help="Side that images are resized to; may be given several times.",
)
@slot_option(Phases)
@into(PhasesArguments)
def phases(arguments: PhasesArguments) -> Report:
    """Draw random points in each phase of a case, and aggregate over its phases (Hu).

    Phases and cases are columns of a CSV of pairs. Several --model are the encoders.
    """
    return run_evaluation(Phases, arguments)


@dataclass(frozen=True, kw_only=True)
class BoxesArguments(EvaluationArguments):
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
    return run_evaluation(Boxes, arguments)


@dataclass(frozen=True, kw_only=True)
class EverythingArguments(EvaluationArguments):
    """Options of ``fastseg evaluate everything``."""

    points_per_side: int
    pred_iou_thresh: float
    stability_score_thresh: float
    box_nms_thresh: float
    crop_n_layers: int
    min_mask_region_area: int


def _grid_options(command: Callable[..., Any]) -> Callable[..., Any]:
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
    return run_evaluation(Everything, arguments)


evaluate.add_command(measurements)
