"""``fastseg segment``: masks for boxes and points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from fastseg.cli.arguments import (
    ModelArguments,
    ViewArguments,
    into,
    json_option,
    model_options,
    view_options,
)
from fastseg.cli.batch import BatchArguments, Task, batch_options, run_batch
from fastseg.cli.formats import FormatArguments, format_options
from fastseg.cli.prompt_options import Box, Point, check_prompts
from fastseg.cli.report import Report
from fastseg.masks import Masks, OutputMode
from fastseg.results import Contents

PER_MASK = "the masks that the model predicted, before --best"


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ViewArguments, BatchArguments, FormatArguments):
    """Options of ``fastseg segment``."""

    images: tuple[Path, ...]
    box: tuple[Box, ...]
    point: tuple[Point, ...]
    label: tuple[int, ...]
    name: tuple[str, ...]
    multimask: bool
    best: bool
    mask_png: bool


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a call, as ``Sam.segment`` takes them."""

    boxes: NDArray[np.float64] | None  # (prompts, 4)
    points: NDArray[np.float64] | None  # (1, points, 2)
    labels: NDArray[np.int32] | None  # (1, points)
    names: tuple[str, ...] | None

    def as_dict(self) -> dict[str, Any]:
        """Return the prompts that were given, ready for JSON."""
        given = {"boxes": self.boxes, "points": self.points, "labels": self.labels}
        found = {name: array.tolist() for name, array in given.items() if array is not None}
        return found if self.names is None else {**found, "names": list(self.names)}


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--box",
    nargs=4,
    type=float,
    multiple=True,
    metavar="X0 Y0 X1 Y1",
    help="A box in pixels: left, top, right, bottom. May be given several times.",
)
@click.option(
    "--point",
    nargs=2,
    type=float,
    multiple=True,
    metavar="X Y",
    help="A point in pixels. May be given several times.",
)
@click.option(
    "--label",
    type=click.IntRange(0, 1),
    multiple=True,
    help="1 = foreground, 0 = background. One for each --point, in order. Default: all 1.",
)
@click.option(
    "--name",
    multiple=True,
    metavar="NAME",
    help="Name of a prompt, which its masks carry. One for each --box, in order, or one for the "
    "points.",
)
@click.option(
    "--multimask/--single",
    default=True,
    show_default=True,
    help="Predict three masks for each prompt, or one.",
)
@click.option("--best", is_flag=True, help="Keep only the best-scoring mask of each prompt.")
@click.option("--mask-png", is_flag=True, help="Also write one PNG for each mask into --out.")
@view_options
@model_options
@format_options
@batch_options
@json_option
@into(Arguments)
def segment(arguments: Arguments) -> Report:
    """Segment the objects that boxes and points mark, in one or many IMAGES.

    Each --box is a prompt of its own. All --point together are one prompt, and belong to the box
    if there is exactly one. Every image gets the same prompts. A model that takes no prompt gets
    the images alone.
    """
    arguments.check_out(arguments.images)
    prompts = prompts_of(arguments)
    with arguments.load() as model:

        def call(image: NDArray[np.uint8]) -> Masks:
            masks = model.segment(
                image,
                points=prompts.points,
                labels=prompts.labels,
                boxes=prompts.boxes,
                names=prompts.names,
                multimask=arguments.multimask,
            )
            return masks.best() if arguments.best else masks

        settings = {
            **prompts.as_dict(),
            "multimask": arguments.multimask,
            "best": arguments.best,
            **arguments.seen(),
        }
        mode: OutputMode = "binary_mask" if arguments.mask_png else "coco_rle"
        contents = Contents(mode=mode, overlays=arguments.overlay, table=True)
        contents = arguments.contents(contents, arguments.out)
        task = Task("segment", call, settings, contents, PER_MASK, arguments.read)
        return run_batch(arguments.images, model, task, arguments)


def prompts_of(arguments: Arguments) -> Prompts:
    """Turn the options into prompts.

    Raises:
        click.UsageError: There is no prompt and the model takes some, or the options are ambiguous.
        ModelError: There is no prompt and no such model.
    """
    boxes, points, labels = arguments.box, arguments.point, arguments.label
    if boxes or points or labels or arguments.takes_prompts():
        check_prompts(boxes, points, labels)
    count = max(1, len(boxes))
    if arguments.name and len(arguments.name) != count:
        raise click.UsageError(
            f"{count} prompts and {len(arguments.name)} names: give each --box one --name, all "
            "--point together one, or none"
        )
    return Prompts(
        names=arguments.name or None,
        boxes=np.array(boxes, np.float64) if boxes else None,
        points=np.array([points], np.float64) if points else None,
        labels=np.array([labels or (1,) * len(points)], np.int32) if points else None,
    )
