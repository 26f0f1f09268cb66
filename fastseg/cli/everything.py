"""``fastseg everything``: every object of many images, without a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.rules import GridDefaults, Rules
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
from fastseg.cli.report import Report
from fastseg.errors import PromptError
from fastseg.guided.promptable import PromptModel
from fastseg.imaging.folders import expand_folders
from fastseg.masks import Masks, OutputMode
from fastseg.results import Contents
from fastseg.sam.grid_settings import GridSettings, Search, resolved_settings
from fastseg.sam.model import Sam
from fastseg.sam.prototypes import Prototypes

_HELP = {
    "points_per_side": "Points along each side of the grid.",
    "points_per_batch": "Prompts per run of the decoder, at most; it does not change results.",
    "pred_iou_thresh": "Keep masks with a predicted IoU above this. [default: the model's, 0.88 "
    "for SAM]",
    "stability_score_thresh": "Keep masks with a stability score of at least this. [default: the "
    "model's, 0.95 for SAM]",
    "stability_score_offset": "Shift of the logit threshold for the stability score.",
    "box_nms_thresh": "If two boxes have a higher IoU than this, keep the mask that scores best.",
    "crop_n_layers": "Also segment 2**i x 2**i overlapping crops, for i from 1 to this.",
    "crop_nms_thresh": "Same as --box-nms-thresh, between crops; the smaller crop wins.",
    "crop_overlap_ratio": "Overlap of crops, as a fraction of the image's shorter side.",
    "crop_n_points_downscale_factor": "Crops of layer i have points-per-side / factor**i points "
    "a side.",
    "search": "coarse-to-fine is quicker and may miss masks: it leaves out points that a mask of a "
    "coarser grid covers.",
    "min_mask_region_area": "Fill holes and remove islands with fewer pixels than this; 0: none.",
}
"""Help of each setting: those of SAM's automatic mask generator, and ``search``."""

_TYPES = {"search": click.Choice(get_args(Search))}
"""Types of options whose values are more than those of their defaults."""

_OWN = tuple(each.name for each in fields(GridDefaults))
"""Settings whose defaults are the model's own."""

PER_MASK = "the masks that passed the filters"


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ViewArguments, BatchArguments, FormatArguments):
    """Options of ``fastseg everything``, with the settings of ``GridSettings``."""

    sources: tuple[Path, ...]
    output_mode: OutputMode
    prototypes: Path | None
    points_per_side: int
    points_per_batch: int
    pred_iou_thresh: float | None
    stability_score_thresh: float | None
    stability_score_offset: float
    box_nms_thresh: float
    crop_n_layers: int
    crop_nms_thresh: float
    crop_overlap_ratio: float
    crop_n_points_downscale_factor: int
    min_mask_region_area: int
    search: Search


def grid_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every setting of ``GridSettings`` as an option with its name and default."""
    for setting in reversed(fields(GridSettings)):
        if setting.name in _HELP:
            command = click.option(
                "--" + setting.name.replace("_", "-"),
                type=_TYPES.get(setting.name) or type(setting.default),
                default=None if setting.name in _OWN else setting.default,
                show_default=setting.name not in _OWN,
                help=_HELP[setting.name],
            )(command)
    return command


def _prototypes(file: Path, model: PromptModel) -> Prototypes:
    """Read prototypes, which are means of the embeddings of a model of SAM's family."""
    if not isinstance(model, Sam):
        raise PromptError(
            "--prototypes compares image embeddings, which this model does not have. Name a model "
            "of SAM's family, or leave it out."
        )
    return Prototypes.load(file, model)


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
@click.option(
    "--prototypes",
    type=click.Path(path_type=Path),
    help="Name each mask by the nearest of these prototypes, a file of fastseg.Prototypes.save.",
)
@view_options
@model_options
@format_options
@batch_options
@json_option
@into(Arguments)
def everything(arguments: Arguments) -> Report:
    """Find every object in SOURCES: images, or folders of images.

    The settings have the names and defaults of SAM's automatic mask generator, but for --search.
    """
    grid: dict[str, Any] = {name: getattr(arguments, name) for name in _HELP}
    resolved_settings(grid, Rules())  # raises once for all images, before the model is loaded
    images, left_out = expand_folders(arguments.sources)
    arguments.check_out(images)
    with arguments.load() as model:
        file = arguments.prototypes
        classify = None if file is None else _prototypes(file, model)
        settings = resolved_settings(grid, model.manifest.sam_rules)
        grid |= {name: getattr(settings, name) for name in _OWN}

        def call(image: NDArray[np.uint8]) -> Masks:
            return model.everything(image, **grid, classify=classify)

        contents = Contents(mode=arguments.output_mode, overlays=arguments.overlay, table=True)
        contents = arguments.contents(contents, arguments.out)
        named = {} if file is None else {"prototypes": str(file)}
        said = {**grid, **named, **arguments.seen()}
        task = Task("everything", call, said, contents, PER_MASK, arguments.read)
        return run_batch(images, model, task, arguments, left_out)
