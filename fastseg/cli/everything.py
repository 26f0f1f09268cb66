"""``fastseg everything``: every object of many pictures, without a prompt."""

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
    PictureArguments,
    into,
    json_option,
    model_options,
    out_options,
    picture_options,
)
from fastseg.cli.batch import Task, expand, work_through
from fastseg.cli.report import Report
from fastseg.masks import Masks, OutputMode
from fastseg.results import Contents
from fastseg.sam.grid_settings import GridSettings

_HELP = {
    "points_per_side": "Clicks along each side of the grid.",
    "points_per_batch": "Most prompts in one run of the decoder; no result depends on it.",
    "pred_iou_thresh": "Keep masks whose predicted IoU is above.",
    "stability_score_thresh": "Keep masks at least this stable.",
    "stability_score_offset": "Shift of the logit threshold that stability is measured with.",
    "box_nms_thresh": "Of boxes with a higher IoU than this, the best-scoring stays.",
    "crop_n_layers": "Also look at 2**i x 2**i overlapping crops for i up to this.",
    "crop_nms_thresh": "As --box-nms-thresh, between crops; the smaller crop wins.",
    "crop_overlap_ratio": "Overlap of crops, as a share of the shorter side.",
    "crop_n_points_downscale_factor": "Layer i has points-per-side / factor**i clicks a side.",
    "min_mask_region_area": "Fill holes and drop islands smaller than this many pixels.",
}
"""SAM's settings of the automatic mask generator, by their names."""


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, PictureArguments, OutArguments):
    """What ``fastseg everything`` was asked for, with the settings of ``GridSettings``."""

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
    """Every setting of ``GridSettings`` as an option of its name and default."""
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
    help="How masks are written; binary_mask adds one PNG a mask.",
)
@picture_options
@model_options
@out_options
@json_option
@into(Arguments)
def everything(arguments: Arguments) -> Report:
    """Find every object in SOURCES: images, or folders of images.

    The settings have the names and the defaults of SAM's automatic mask generator.
    """
    settings: dict[str, Any] = {name: getattr(arguments, name) for name in _HELP}
    GridSettings(**settings)  # raises for all pictures at once, before the model is loaded
    pictures = expand(arguments.sources)
    with arguments.load() as model:

        def call(image: NDArray[np.uint8]) -> Masks:
            return model.everything(image, **settings)

        contents = Contents(mode=arguments.output_mode, overlays=arguments.overlay)
        task = Task("everything", call, settings, contents, arguments.limit)
        return work_through(pictures, model, task, arguments)
