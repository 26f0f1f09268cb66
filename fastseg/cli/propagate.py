"""``fastseg propagate``: objects followed through the slices of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from rich.console import RenderableType

from fastseg import imaging, overlay, results
from fastseg.cli.arguments import (
    DEFAULT_MODEL,
    ImageArguments,
    ModelArguments,
    OutArguments,
    image_options,
    into,
    json_option,
    model_options,
    out_options,
    window_option,
)
from fastseg.cli.formats import FormatArguments, format_options
from fastseg.cli.progress import progress
from fastseg.cli.prompt_options import Box, Point, check_prompts
from fastseg.cli.report import DONE, Report, Table, document
from fastseg.errors import ImageError
from fastseg.images import read_image
from fastseg.imaging import MedicalImage
from fastseg.inputs.text import file_stem, printable
from fastseg.results import Contents
from fastseg.sam.model import Sam
from fastseg.sam.volume_masks import Rule, VolumeMasks
from fastseg.sam.volume_prompts import PropagationSettings
from fastseg.sam.volume_slices import VolumeSlices
from fastseg.sam.volume_summary import describe_object, describe_slices

_DEFAULTS = PropagationSettings()
_MOST_DRAWN = 24

_HINT = (
    f"{DEFAULT_MODEL} has not been trained on medical images: look at every slice, or give the "
    "folder of a model that has; see docs/models.md"
)


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ImageArguments, OutArguments, FormatArguments):
    """Options of ``fastseg propagate``."""

    volume: Path
    box: tuple[Box, ...]
    point: tuple[Point, ...]
    label: tuple[int, ...]
    name: tuple[str, ...]
    start: int | None
    correct: tuple[tuple[int, int, float, float, float, float], ...]
    axis: int
    rule: Rule
    margin: float
    min_score: float
    max_change: float
    max_shift: float
    multimask: bool
    window: str | None
    series: str | None
    volume_number: int | None
    checkpoint: Path | None

    def read(self) -> MedicalImage:
        """Read the volume in its window.

        Raises:
            ImageError: It cannot be read, or has several volumes and none is named.
        """
        image = imaging.read(self.volume, series=self.series, max_pixels=self.limit)
        if self.window is not None:
            image = image.with_window(self.window)
        if self.volume_number is None and image.volumes > 1:
            raise ImageError(
                f"{self.volume} has {image.volumes} volumes in time. Choose one by "
                "--volume-number, from 0."
            )
        return image if self.volume_number is None else image.volume(self.volume_number)

    def prompts(self) -> dict[str, Any]:
        """Return the prompts of the start slice, as ``Sam.propagate`` takes them.

        Raises:
            click.UsageError: There is no prompt, or it is not clear what belongs to what.
        """
        check_prompts(self.box, self.point, self.label)
        found: dict[str, Any] = {}
        if self.box:
            found["boxes"] = [list(box) for box in self.box]
        if self.point:
            found["points"] = [[list(point) for point in self.point]]
            found["labels"] = [list(self.label or (1,) * len(self.point))]
        return found

    def corrections(self) -> dict[int, dict[str, Any]]:
        """Return the boxes of other slices by slice."""
        found: dict[int, dict[str, Any]] = {}
        for place, number, *box in self.correct:
            more = found.setdefault(place, {"boxes": [], "objects": []})
            more["boxes"].append(box)
            more["objects"].append(number)
        return found

    def settings(self) -> dict[str, Any]:
        """Return what decides about the masks, ready for JSON."""
        names = ("axis", "rule", "margin", "min_score", "max_change", "max_shift")
        given = {name: getattr(self, name) for name in (*names, "multimask", "window")}
        corrections = [list(one) for one in self.correct]
        named = {"names": list(self.name)} if self.name else {}
        asked = {**self.prompts(), **named, "start": self.start, "corrections": corrections}
        return {**asked, **given}


@click.command()
@click.argument("volume", type=click.Path(path_type=Path))
@click.option(
    "--box",
    nargs=4,
    type=float,
    multiple=True,
    metavar="X0 Y0 X1 Y1",
    help="A box on the start slice, in pixels. Each one is an object.",
)
@click.option(
    "--point",
    nargs=2,
    type=float,
    multiple=True,
    metavar="X Y",
    help="A point on the start slice. All points are of one object.",
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
    help="Name of an object, which its masks carry. One for each object, in order.",
)
@click.option(
    "--start", type=click.IntRange(min=0), help="The prompted slice, from 0. Default: the middle."
)
@click.option(
    "--correct",
    type=(int, int, float, float, float, float),
    multiple=True,
    metavar="SLICE OBJECT X0 Y0 X1 Y1",
    help="A box for an object, from 0, on another slice. May be given several times.",
)
@click.option(
    "--axis",
    type=click.IntRange(0, 2),
    default=0,
    show_default=True,
    help="Axis that slices are cut across: 0 frames, 1 rows, 2 columns.",
)
@click.option(
    "--rule",
    type=click.Choice(get_args(Rule)),
    default=_DEFAULTS.rule,
    show_default=True,
    help="Prompt of the next slice: the last mask's box, its box and logits, the given box, or "
    "the given box unless the last mask's box scores much better.",
)
@click.option(
    "--margin",
    type=float,
    default=_DEFAULTS.margin,
    help="Width added to the box of a mask, as a share of the slice. Default: 3/256.",
)
@click.option(
    "--min-score",
    type=float,
    default=_DEFAULTS.min_score,
    show_default=True,
    help="End an object whose score is below this share of its first one.",
)
@click.option(
    "--max-change",
    type=float,
    default=_DEFAULTS.max_change,
    show_default=True,
    help="End an object whose area grows or shrinks by more than this factor.",
)
@click.option(
    "--max-shift",
    type=float,
    default=_DEFAULTS.max_shift,
    show_default=True,
    help="End an object whose mean level differs by more than this many standard deviations.",
)
@click.option(
    "--multimask/--single",
    default=True,
    show_default=True,
    help="Take the best of three masks, or the single one.",
)
@click.option("--series", help="End of the identifier of a series, where a folder holds several.")
@click.option(
    "--volume-number", type=click.IntRange(min=0), help="Volume of a file with several in time."
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="File that keeps the state until the work is done; a call that finds it continues.",
)
@window_option
@image_options
@model_options
@format_options
@out_options
@json_option
@into(Arguments)
def propagate(arguments: Arguments) -> Report:
    """Follow the objects that boxes mark on one slice of VOLUME to both sides of it.

    VOLUME is a DICOM file of many frames, a folder or archive of a series, NIfTI, NRRD, or a clip.
    """
    contents = arguments.contents(Contents(overlays=False), arguments.out)
    prompts, corrections = arguments.prompts(), arguments.corrections()
    arguments.check_out([arguments.volume])
    volume = arguments.read()
    with arguments.load_sam() as model, ExitStack() as stack:
        step = stack.enter_context(progress(None))
        found = model.propagate(
            volume,
            start=arguments.start,
            **prompts,
            names=arguments.name or None,
            corrections=corrections,
            axis=arguments.axis,
            rule=arguments.rule,
            margin=arguments.margin,
            min_score=arguments.min_score,
            max_change=arguments.max_change,
            max_shift=arguments.max_shift,
            multimask=arguments.multimask,
            checkpoint=arguments.checkpoint,
            progress=lambda done, total: step(f"{done} of at most {total} slices"),
        )
        body = _body(arguments, volume, found, model)
        if arguments.out is not None:
            _write(arguments, contents, volume, found, body)
        else:
            body["slices"] = list(describe_slices(found, volume))
    hints = [_HINT] if body["model"] == DEFAULT_MODEL else []
    return Report("propagate", body, tuple(_text(body, found)), hints=hints)


def _body(
    arguments: Arguments, volume: MedicalImage, found: VolumeMasks, model: Sam
) -> dict[str, Any]:
    return {
        **model.provenance(),
        "settings": arguments.settings(),
        "file": str(arguments.volume),
        "shape": list(volume.stored.shape[:3]),
        "spacing_mm": [volume.slice_spacing, *(volume.spacing or (None, None))],
        "objects": [describe_object(found, number) for number in range(found.objects)],
        "embedded": found.embedded,
        "timings": found.timings.as_dict(),
        "out": None if arguments.out is None else str(arguments.out),
    }


def _write(
    arguments: Arguments,
    contents: Contents,
    volume: MedicalImage,
    found: VolumeMasks,
    body: dict[str, Any],
) -> None:
    """Write one file in each format, the masks of each slice as COCO, and a sheet of slices."""
    suffixes = contents.suffixes or (".nii.gz",)
    whole = Contents(overlays=False, suffixes=suffixes, segmentation=contents.segmentation)
    name = file_stem(arguments.volume.name.partition(".")[0] or arguments.volume.name)
    info = {key: body[key] for key in ("model", "backend", "device", "precision", "runs")}
    assert arguments.out is not None  # noqa: S101
    slices = VolumeSlices.of(volume, found.axis)
    with results.write(
        arguments.out, info, contents=whole, overwrite=arguments.overwrite
    ) as folder:
        folder.add_frames(name, found.frames(), volume)
        for place, masks in enumerate(found):
            if masks.areas.any():
                folder.add_masks(str(arguments.volume), masks, frame=place, medical=slices[place])
        if arguments.overlay:
            folder.draw(name, _sheet(slices, found, str(arguments.volume)))
        folder.report(document("propagate", body, DONE))


def _sheet(slices: VolumeSlices, found: VolumeMasks, name: str) -> Any:
    """Draw slices with masks, evenly chosen where they are many."""
    places = [place for place, masks in enumerate(found) if masks.areas.any()]
    chosen = sorted({places[int(at)] for at in np.linspace(0, len(places) - 1, _MOST_DRAWN)})
    panels = [
        overlay.Panel(
            read_image(slices[place], max_pixels=None),
            found[place],
            f"slice {place}",
            spacing=slices.pixel,
        )
        for place in chosen
    ]
    ml = found.millilitres
    size = "" if ml is None else " · " + ", ".join(f"{one:.2f} mL" for one in ml)
    return overlay.montage(panels, f"{Path(name).name} · {len(places)} slices{size}")


def _text(body: dict[str, Any], found: VolumeMasks) -> Iterator[RenderableType]:
    table = Table("object", "slices", box=None, pad_edge=False)
    for heading in ("voxels", "mL"):
        table.add_column(heading, justify="right")
    for heading in ("ends below", "ends above"):
        table.add_column(heading)
    for row in body["objects"]:
        reasons = {-1: "", 1: ""}
        for stop in row["stops"]:
            reasons[stop["step"]] = f"{stop['last']}: {stop['reason']}"
        first, last = row["slices"] or ("-", "-")
        size = "-" if row["ml"] is None else f"{row['ml']:.3f}"
        table.add_row(
            row.get("name", str(row["object"])), f"{first} to {last}", str(row["voxels"]), size,
            reasons[-1], reasons[1],
        )  # fmt: skip
    yield table
    total = found.timings.total
    yield f"{found.embedded} slices encoded in {total / 1000:.1f} s"
    yield f"\n{body['model']} on {body['backend']} {body['device']} {body['precision']}"
    if body["out"] is not None:
        yield f"results in {printable(body['out'])}"
