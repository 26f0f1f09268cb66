"""``fastseg everything``: every object of many images, without a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from numpy.typing import NDArray

from fastseg.cli.arguments import (
    ModelArguments,
    OutArguments,
    ViewArguments,
    into,
    json_option,
    model_options,
    out_options,
    view_options,
)
from fastseg.cli.batch import Task, expand_folders, run_batch
from fastseg.cli.formats import FormatArguments, format_options
from fastseg.cli.report import Report
from fastseg.masks import Masks, OutputMode
from fastseg.results import Contents
from fastseg.sam.grid_settings import GridSettings

_HELP = {
    "points_per_side": "Points along each side of the grid.",
    "points_per_batch": "Prompts per run of the decoder, at most; it does not change results.",
    "pred_iou_thresh": "Keep masks with a predicted IoU above this.",
    "stability_score_thresh": "Keep masks with a stability score of at least this.",
    "stability_score_offset": "Shift of the logit threshold for the stability score.",
    "box_nms_thresh": "If two boxes have a higher IoU than this, keep the mask that scores best.",
    "crop_n_layers": "Also segment 2**i x 2**i overlapping crops, for i from 1 to this.",
    "crop_nms_thresh": "Same as --box-nms-thresh, between crops; the smaller crop wins.",
    "crop_overlap_ratio": "Overlap of crops, as a fraction of the image's shorter side.",
    "crop_n_points_downscale_factor": "Crops of layer i have points-per-side / factor**i points "
    "a side.",
    "min_mask_region_area": "Fill holes and remove islands with fewer pixels than this; 0: none.",
}
"""Help of each setting of SAM's automatic mask generator."""

PER_MASK = "the masks that passed the filters"


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ViewArguments, OutArguments, FormatArguments):
    """Options of ``fastseg everything``, with the settings of ``GridSettings``."""

    sources: tuple[Path, ...]
    output_mode: OutputMode
    points_per_side: int
    points_per_batch: int
    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    box_nms_thresh: float
    crop_n_layers: int
    crop_nms_thresh: float
    crop_overlap_ratio: float
    crop_n_points_downscale_factor: int
    min_mask_region_area: int


def grid_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every setting of ``GridSettings`` as an option with its name and default."""
    for setting in reversed(fields(GridSettings)):
        if setting.name in _HELP:
            command = click.option(
                "--" + setting.name.replace("_", "-"),
                type=type(setting.default),
                default=setting.default,
                show_default=True,
                help=_HELP[setting.name],
            )(command)
    return command


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@grid_options
@click.option(
    "--output-mode",
    type=click.Choice(get_args(OutputMode)),
    default="coco_rle",
    show_default=True,
    help="Form of the masks; binary_mask also writes one PNG for each mask.",
)
@view_options
@model_options
@format_options
@out_options
@json_option
@into(Arguments)
def everything(arguments: Arguments) -> Report:
    """Find every object in SOURCES: images, or folders of images.

    The settings have the names and defaults of SAM's automatic mask generator.
    """
    grid: dict[str, Any] = {name: getattr(arguments, name) for name in _HELP}
    GridSettings(**grid)  # raises once for all images, before the model is loaded
    images, left_out = expand_folders(arguments.sources)
    arguments.check_out(images)
    with arguments.load() as model:

        def call(image: NDArray[np.uint8]) -> Masks:
            return model.everything(image, **grid)

        contents = Contents(mode=arguments.output_mode, overlays=arguments.overlay)
        settings = {**grid, **arguments.seen()}
        contents = arguments.contents(contents, arguments.out)
        task = Task("everything", call, settings, contents, PER_MASK, arguments.read)
        return run_batch(images, model, task, arguments, left_out)
