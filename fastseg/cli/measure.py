"""``fastseg measure``: areas, axes, volumes and the numbers of the heart from masks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import click
from rich.console import RenderableType

from fastseg import provenance
from fastseg.cli.arguments import ImageArguments, image_options, into, json_option
from fastseg.cli.echo_tables import tables
from fastseg.cli.report import (
    DONE,
    SOME_FAILED,
    Report,
    Table,
    error_body,
    failure_line,
)
from fastseg.echo import files as echo_files
from fastseg.echo.mask_measures import MaskMeasurer, MaskReport, MaskSource
from fastseg.echo.views import VIEWS
from fastseg.errors import FastsegError, MeasurementError
from fastseg.inputs.text import printable
from fastseg.storage.atomic import atomic_file

COLUMNS = (
    "file", "frame", "label", "area_px", "length_px", "area_cm2", "length_cm", "disk_volume_ml",
    "eccentricity", "solidity", "pieces", "voxels", "volume_ml", "edv_ml", "esv_ml", "ef_percent",
    "caution", "reason",
)  # fmt: skip
"""Heads of the columns of ``--out``, before that of the notice."""

_MOST_SHOWN = 40  # masks in the table for a person


@dataclass(frozen=True, kw_only=True)
class Arguments(ImageArguments):
    """Options of ``fastseg measure``."""

    masks: tuple[Path, ...]
    cm_per_pixel: float | None
    unit: str
    view: str | None
    patient: str | None
    label: tuple[str, ...]
    bsa: float | None
    threads: int
    out: Path | None


@click.command()
@click.argument("masks", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--cm-per-pixel",
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    help="Side of a pixel in cm. Default: the file's own (NIfTI, NRRD, DICOM SEG), else pixels.",
)
@click.option(
    "--unit",
    type=click.Choice(["auto", "cm"]),
    default="auto",
    show_default=True,
    help="cm refuses files without a scale; auto measures them in pixels.",
)
@click.option(
    "--view",
    type=click.Choice([*VIEWS]),
    help="View of the heart of all files. Default: from the file name, else no report of a heart.",
)
@click.option("--patient", help="Patient id of all files. Default: from the file name.")
@click.option(
    "--label",
    multiple=True,
    metavar="OLD=NEW",
    help="New name of a structure, 'label 1=LV' for example; may be given several times.",
)
@click.option(
    "--bsa",
    type=click.FloatRange(min=0, min_open=True),
    help="Body surface area in m2, for the report of a heart.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processor threads; 0 uses every available core.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file for the measurements, replaced if it exists. Default: write no file.",
)
@image_options
@json_option
@into(Arguments)
def measure(arguments: Arguments) -> Report:
    """Measure MASKS: label maps (PNG, TIFF, NIfTI, NRRD), COCO JSON, DICOM SEG or tracings (CSV).

    Each structure of each frame gets its area and long axis, each structure of a volume its mL.
    Files whose view of the heart is known (--view, or <patient>_<view>_... as a name) get the
    report of fastseg echo too; their structures are called LV, LA, RV, RA, disc and cavity, or get
    these names by --label. Tracings are those of EchoNet-Dynamic. For research use only; not a
    medical device.
    """
    measurer = MaskMeasurer(
        arguments.cm_per_pixel,
        _labels(arguments.label),
        arguments.unit == "cm",
        arguments.limit,
        arguments.threads,
    )
    rows: list[dict[str, Any]] = []
    failures = []
    for path in arguments.masks:
        row: dict[str, Any] = {"file": str(path)}
        rows.append(row)
        try:
            measurer.add(_source(path, arguments))
        except FastsegError as error:
            row |= error_body(error)
            failures.append(failure_line(str(path), error))
    report = measurer.report(bsa_m2=arguments.bsa)
    out = arguments.out if report.masks else None
    if out is not None:
        content = as_csv(report)
        with atomic_file(out) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="")
    settings = {
        "cm_per_pixel": arguments.cm_per_pixel,
        "unit": arguments.unit,
        "view": arguments.view,
        "bsa_m2": arguments.bsa,
    }
    body = {
        "settings": settings,
        "files": rows,
        **report.as_dict(),
        "out": None if out is None else str(out),
    }
    code = SOME_FAILED if failures else DONE
    return Report("measure", body, tuple(_text(report, out)), code, failures)


def as_csv(report: MaskReport) -> str:
    """Write a line for each mask, and one for each volume, with the heads first."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([*COLUMNS, "notice"])
    lines = [one.as_dict() for one in report.masks] + [one.as_dict() for one in report.volumes]
    for fields in lines:
        writer.writerow([*(_cell(fields.get(name, "")) for name in COLUMNS), provenance.NOTICE])
    return stream.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _labels(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (old, _, new) in zip(given, pairs, strict=True):
        if not old or not new:
            raise MeasurementError(f"--label {text!r} names no structure. Write 'label 1=LV'.")
    return {old: new for old, _, new in pairs}


def _source(path: Path, arguments: Arguments) -> MaskSource:
    """Take view and patient from the options, else from a name that has them."""
    try:
        named = echo_files.recognise(path, view=arguments.view, patient=arguments.patient)
    except MeasurementError:  # no view in its name, or two
        return MaskSource(path, None, arguments.patient or "")
    return MaskSource(path, named.view, named.patient or path.stem)


def _text(report: MaskReport, out: Path | None) -> Iterator[RenderableType]:
    if not report.masks:
        return
    yield _mask_table(report)
    left = len(report.masks) - _MOST_SHOWN
    if left > 0:
        yield f"and {left} masks more: --out or --json lists all"
    if report.volumes:
        yield ""
        yield _volume_table(report)
    for one in report.studies:
        yield from tables(one)
    yield f"\n{provenance.NOTICE}"
    if out is not None:
        yield f"measurements in {printable(str(out))}"


def _mask_table(report: MaskReport) -> Table:
    table = Table("file", "frame", "structure", box=None, pad_edge=False)
    for head in ("pixels", "area cm2", "length cm", "disks mL"):
        table.add_column(head, justify="right")
    table.add_column("caution")
    for one in report.masks[:_MOST_SHOWN]:
        numbers = (
            f"{one.area_px:.0f}",
            f"{one.area_cm2:.2f}",
            f"{one.length_cm:.2f}",
            f"{one.disk_volume_ml:.1f}",
        )
        cells = ("-" if number == "nan" else number for number in numbers)
        table.add_row(PurePath(one.file).name, f"{one.frame}", one.label, *cells, one.caution)
    return table


def _volume_table(report: MaskReport) -> Table:
    table = Table("file", "structure", box=None, pad_edge=False)
    for head in ("volume mL", "EDV mL", "ESV mL", "EF %"):
        table.add_column(head, justify="right")
    table.add_column("reason")
    for one in report.volumes:
        numbers = (one.volume_ml, one.edv_ml, one.esv_ml, one.ef_percent)
        cells = ("-" if math.isnan(number) else f"{number:.1f}" for number in numbers)
        table.add_row(PurePath(one.file).name, one.label, *cells, one.reason)
    return table
