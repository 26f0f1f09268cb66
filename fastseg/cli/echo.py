"""``fastseg echo``: the chambers of the heart, and their measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from rich.console import RenderableType

from fastseg import provenance, results
from fastseg.cli import echo_files
from fastseg.cli.arguments import (
    ImageArguments,
    ModelArguments,
    OutArguments,
    image_options,
    into,
    json_option,
    out_options,
    runtime_options,
)
from fastseg.cli.echo_files import EchoFile, StudyKey
from fastseg.cli.echo_output import EchoOutput
from fastseg.cli.echo_tables import tables
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report, document, error_body, failure_line
from fastseg.echo.findings import Finding, Place, find
from fastseg.echo.frames import FrameChannels
from fastseg.echo.report import Study, study, view_doubt
from fastseg.echo.unet import Unet
from fastseg.echo.views import VIEWS
from fastseg.errors import FastsegError, ImageError, MeasurementError, OutputError
from fastseg.imaging import Timing
from fastseg.inputs.text import printable
from fastseg.loading import load_unet
from fastseg.masks import Masks
from fastseg.measure import FIELD_OF_VIEW_CM, Mode
from fastseg.results import Contents
from fastseg.timings import Timings

MEASUREMENTS_FILE = "measurements.json"

VIEW_FRAMES = 5
"""Frames of a clip, evenly apart, that are compared with other views."""


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ImageArguments, OutArguments):
    """Options of ``fastseg echo``."""

    frames: tuple[Path, ...]
    view: str | None
    patient: str | None
    channels: FrameChannels | None
    cm_per_pixel: float | None
    mode: Mode
    whole_frame: bool
    bsa: float | None
    frames_per_beat: float | None
    sr: bool

    def settings(self) -> dict[str, Any]:
        """Return the options that the measurements depend on, ready for JSON."""
        return {
            "mode": self.mode,
            "channels": self.channels,
            "cm_per_pixel": self.cm_per_pixel,
            "whole_frame": self.whole_frame,
            "bsa_m2": self.bsa,
            "frames_per_beat": self.frames_per_beat,
        }


@dataclass(slots=True)
class _Batch:
    """Files, findings and failures of one call."""

    arguments: Arguments
    models: Mapping[str, Unet]  # by view
    output: EchoOutput | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    findings: dict[StudyKey, list[Finding]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)  # frames so far, by clip
    timing: dict[str, Timing] = field(default_factory=dict)  # by clip
    sources: dict[StudyKey, list[Path]] = field(default_factory=dict)
    doubts: dict[StudyKey, list[str]] = field(default_factory=dict)
    other_views: Callable[[str], Unet] | None = None
    """Loads the network of another view to compare with; None where none is comparable."""

    @property
    def exit_code(self) -> int:
        """Exit code: 1 once a file has failed."""
        return SOME_FAILED if self.failures else DONE

    def describe(self, view: str) -> str:
        """Name the network of a view, what it ran on, and the mode."""
        return f"{_ran_on(self.models[view])} · mode {self.arguments.mode}"

    def measure(self, file: EchoFile) -> None:
        """Segment and measure one file; one that fails is reported and does not stop the others."""
        row: dict[str, Any] = {"file": str(file.path), "view": file.view, "patient": file.patient}
        self.rows.append(row)
        try:
            frames = echo_files.read(
                file.path,
                channels=self.arguments.channels,
                max_pixels=self.arguments.limit,
                cm_per_pixel=self.arguments.cm_per_pixel,
                whole_frame=self.arguments.whole_frame,
            )
            scale = frames.cm_per_pixel
            if frames.cautions:
                row["cautions"] = list(frames.cautions)
            model = self.models[file.view]
            stream = model.stream(frames.arrays, channels=frames.channels, cm_per_pixel=scale)
            clip = list(stream)
            scales = _scales(clip, scale, str(file.path))
            findings = self._find(file, clip, scales)
            doubt = self._doubt(file, frames, clip)
            if self.output is not None:
                self.output.add_clip(file, frames, clip, findings)
        except OutputError:
            raise
        except FastsegError as error:
            row |= error_body(error)
            self.failures.append(failure_line(str(file.path), error))
            return
        row |= {"frames": len(clip), **_geometry(clip, scales)}
        row["timings"] = sum((masks.timings for masks in clip), Timings()).as_dict()
        self.findings.setdefault(file.study, []).extend(chain.from_iterable(findings))
        self.timing[file.clip(len(clip))] = frames.timing
        self.sources.setdefault(file.study, []).append(file.path)
        if doubt:
            row["cautions"] = [*row.get("cautions", []), doubt]
            self.doubts.setdefault(file.study, []).append(f"{file.path}: {doubt}")

    def _find(
        self, file: EchoFile, clip: list[Masks], scales: Sequence[float]
    ) -> list[list[Finding]]:
        """Measure the chambers of each frame; frame numbers continue those of the clip so far."""
        name, start = file.clip(len(clip)), self.lengths.get(file.clip(len(clip)), 0)
        findings = []
        for index, (masks, scale) in enumerate(zip(clip, scales, strict=True)):
            called = str(file.path) if len(clip) == 1 else f"{file.path} frame {index}"
            place = Place(file.view, start + index, name, called)
            findings.append(
                find(
                    masks,
                    place,
                    cm_per_pixel=scale,
                    mode=self.arguments.mode,
                    threads=self.arguments.threads,
                )
            )
        self.lengths[name] = start + len(clip)
        return findings

    def _doubt(self, file: EchoFile, frames: echo_files.Frames, clip: Sequence[Masks]) -> str:
        """Say that frames look like another view, by some of them; empty if they do not."""
        if self.other_views is None:
            return ""
        some = np.unique(np.linspace(0, len(clip) - 1, VIEW_FRAMES).round().astype(int)).tolist()
        seen = {file.view: [clip[index] for index in some]}
        for view in VIEWS:
            if view != file.view:
                masks = self.other_views(view).stream(
                    [frames.arrays[index] for index in some],
                    channels=frames.channels,
                    cm_per_pixel=frames.cm_per_pixel,
                )
                seen[view] = list(masks)
        return view_doubt(file.view, seen)

    def studies(self) -> dict[StudyKey, Study]:
        """Return the study of each patient, in the order of their first files."""
        titles = echo_files.study_titles(self.findings)
        return {
            key: study(
                findings,
                patient=titles[key],
                bsa_m2=self.arguments.bsa,
                frames_per_beat=self.arguments.frames_per_beat,
                timing=self.timing,
                cautions=self.doubts.get(key, ()),
            )
            for key, findings in self.findings.items()
        }


def _scales(clip: Sequence[Masks], known: float | None, name: str) -> list[float]:
    """Return the side of a pixel in cm for each frame; a known one holds for frames of one size.

    Raises:
        ImageError: The frames are of several sizes, and a scale was given for all.
    """
    sizes = list(dict.fromkeys(masks.size for masks in clip))
    if known is None:
        return [FIELD_OF_VIEW_CM / max(masks.size) for masks in clip]
    if len(sizes) > 1:
        told = " and ".join(f"{width} x {height}" for height, width in sizes)
        raise ImageError(
            f"{name} has frames of {told} pixels, and one scale does not hold for all. Give the "
            "frames of each size in a file of their own."
        )
    return [known] * len(clip)


def _geometry(clip: Sequence[Masks], scales: Sequence[float]) -> dict[str, Any]:
    """Return size and scale of the frames, ready for JSON; None where the frames differ in it."""
    heights, widths = zip(*(masks.size for masks in clip), strict=True)
    found = {"width": widths, "height": heights, "cm_per_pixel": scales}
    return {name: each[0] if len(set(each)) == 1 else None for name, each in found.items()}


class _AllFailedError(Exception):
    """Every file failed, so no result folder is written."""


@click.command()
@click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--view",
    type=click.Choice([*VIEWS]),
    help="View of all files. Default: from the file name, else the view of --model.",
)
@click.option("--patient", help="Patient id of all files. Default: from the file name.")
@click.option(
    "--model",
    help="Name of an embedded model, or a model folder. Default: the embedded model of the view.",
)
@click.option(
    "--cm-per-pixel",
    type=click.FloatRange(min=0, min_open=True),
    help="Side of a pixel in cm. Default: the file's own (DICOM), else the longer side of a frame "
    "spans 20 cm.",
)
@click.option(
    "--whole-frame",
    is_flag=True,
    help="Take whole frames of DICOM files, whatever region of tissue they state.",
)
@click.option(
    "--channels",
    type=click.Choice(get_args(FrameChannels)),
    help="Channels of .npy and .npz files. Default: rgb. Arrays taken from DICOM are mostly ycbcr.",
)
@click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    default="default",
    show_default=True,
    help="Method of measurement; source is the published one, quirks included.",
)
@click.option(
    "--bsa",
    type=click.FloatRange(min=0, min_open=True),
    help="Body surface area in m2. Default: no values per m2 are reported.",
)
@click.option(
    "--frames-per-beat",
    type=click.FloatRange(min=0, min_open=True),
    help="Frames in one heartbeat. Default: by the heart rate of the file, else by the areas.",
)
@click.option(
    "--sr",
    is_flag=True,
    help="Write a DICOM SR of each study into --out too. All of its files must be DICOM.",
)
@image_options
@runtime_options
@out_options
@json_option
@into(Arguments)
def echo(arguments: Arguments) -> Report:
    """Measure the heart's chambers in ultrasound FRAMES: images, .npy, .npz, DICOM or clips.

    The view (a2c, a4c or sax) and the patient come from the file name, <patient>_<view>_..., or
    from --view and --patient. A file name without a view takes the view of --model. The files of
    one patient in one folder make one study; --patient joins folders. For research use only; not a
    medical device.
    """
    arguments.check_out(arguments.frames)
    if arguments.sr and arguments.out is None:
        raise OutputError("--sr writes a DICOM SR into --out. Give --out.")
    with ExitStack() as stack:
        named = _load(arguments.model, arguments, stack) if arguments.model else None
        files = [
            echo_files.recognise(
                path,
                view=arguments.view,
                patient=arguments.patient,
                default_view=named.view if named else None,
            )
            for path in arguments.frames
        ]
        views = dict.fromkeys(file.view for file in files)
        if named is None:
            models = {view: _load(f"echo-{view}", arguments, stack) for view in views}
        else:
            _check_views(views, named, arguments.model)
            models = {named.view: named}
        loaded = dict(models)

        def other_view(view: str) -> Unet:
            if view not in loaded:
                loaded[view] = _load(f"echo-{view}", arguments, stack)
            return loaded[view]

        # What a network of the user's expects of its masks is on another scale.
        compared = None if named else other_view
        return _run_batch(files, models, arguments, compared)


def _load(name: str, arguments: Arguments, stack: ExitStack) -> Unet:
    """Load a network, which ``stack`` closes."""
    model = load_unet(name, arguments.choice, max_pixels=arguments.limit)
    return stack.enter_context(model)


def _check_views(views: Iterable[str], model: Unet, name: str) -> None:
    """Refuse files whose view is not that of the network given by ``--model``.

    Raises:
        MeasurementError: There is such a file.
    """
    for view in views:
        if view != model.view:
            raise MeasurementError(
                f"{name} is a network for the view {model.view}, but there are frames of {view}. "
                f"Leave --model out, or name a network for {view}."
            )


def _run_batch(
    files: Sequence[EchoFile],
    models: Mapping[str, Unet],
    arguments: Arguments,
    other_views: Callable[[str], Unet] | None,
) -> Report:
    """Measure every file, and write the results if a folder was given and a file was measured."""
    batch = _Batch(arguments, models, other_views=other_views)
    networks = {view: model.provenance() for view, model in models.items()}
    info = {"models": networks, "settings": arguments.settings()}
    body: dict[str, Any] = {**info, "files": batch.rows, "studies": []}
    studies: list[Study] = []
    with suppress(_AllFailedError), ExitStack() as stack:
        if arguments.out is not None:
            contents, overwrite = Contents(overlays=False), arguments.overwrite
            writing = results.write(arguments.out, info, contents=contents, overwrite=overwrite)
            folder = stack.enter_context(writing)
            batch.output = EchoOutput(folder, arguments.overlay, arguments.threads, batch.describe)
        step = stack.enter_context(progress(len(files)))
        for file in files:
            step(file.path.name)
            batch.measure(file)
        if not batch.findings:
            raise _AllFailedError
        by_key = batch.studies()
        studies = [*by_key.values()]
        body["studies"] = [one.as_dict() for one in studies]
        if batch.output is not None:
            batch.output.add_studies(by_key, batch.sources if arguments.sr else None)
            content = document("echo", body, batch.exit_code)
            batch.output.folder.report(content, name=MEASUREMENTS_FILE)
    out = arguments.out if studies else None
    body["out"] = None if out is None else str(out)
    text = tuple(_text(studies, models, arguments.mode, out))
    hints = (*_cautions(batch.rows), *_hints(batch.findings))
    return Report("echo", body, text, batch.exit_code, batch.failures, hints)


def _cautions(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what has to be known about the scale and the region of each file."""
    for row in rows:
        yield from (f"caution, {row['file']}: {sentence}" for sentence in row.get("cautions", ()))


def _hints(keys: Iterable[StudyKey]) -> Iterator[str]:
    """Yield a hint for each patient whose name stands in several folders."""
    for patient, count in Counter(key.patient for key in keys).items():
        if count > 1:
            yield (
                f"{patient} is in {count} folders, which are {count} studies. If they are one "
                "patient, join them by --patient."
            )


def _text(
    studies: Sequence[Study], models: Mapping[str, Unet], mode: Mode, out: Path | None
) -> Iterator[RenderableType]:
    for one in studies:
        yield from tables(one)
    if not studies:
        return
    ran = ", ".join(f"{view} by {_ran_on(model)}" for view, model in models.items())
    yield f"\n{ran}; mode {mode}"
    yield provenance.NOTICE
    if out is not None:
        yield f"results in {printable(str(out))}"


def _ran_on(model: Unet) -> str:
    """Name a network and the backend, device and precision that it ran on."""
    return f"{model.manifest.name} on {model.backend} {model.device} {model.precision}"
