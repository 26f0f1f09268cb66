"""``fastseg echo``: chambers of the heart, and what they measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, get_args

import click
from rich.console import RenderableType

from fastseg import provenance, results
from fastseg.cli import echo_files
from fastseg.cli.arguments import (
    ModelArguments,
    OutArguments,
    PictureArguments,
    into,
    json_option,
    out_options,
    picture_options,
    runtime_options,
)
from fastseg.cli.echo_files import Recording
from fastseg.cli.echo_tables import tables
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report, document, error_body
from fastseg.echo import picture
from fastseg.echo.findings import Finding, Place, find
from fastseg.echo.frames import FrameChannels
from fastseg.echo.picture import EchoPanel
from fastseg.echo.report import Study, study
from fastseg.echo.unet import Unet
from fastseg.echo.views import VIEWS
from fastseg.errors import FastsegError, MeasurementError, OutputError
from fastseg.loading import load_unet
from fastseg.masks import Masks
from fastseg.measure import FIELD_OF_VIEW_CM, Mode
from fastseg.results import Contents, ResultFolder
from fastseg.timings import Timings

MEASUREMENTS_FILE = "measurements.json"


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, PictureArguments, OutArguments):
    """What ``fastseg echo`` was asked for."""

    frames: tuple[Path, ...]
    view: str | None
    patient: str | None
    channels: FrameChannels | None
    cm_per_pixel: float | None
    mode: Mode
    bsa: float | None
    frames_per_beat: float | None

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, ready for JSON."""
        return {
            "mode": self.mode,
            "channels": self.channels,
            "cm_per_pixel": self.cm_per_pixel,
            "bsa_m2": self.bsa,
            "frames_per_beat": self.frames_per_beat,
        }


@dataclass(slots=True)
class _Work:
    """The files of one call, one after the other, and what came of them."""

    arguments: Arguments
    models: Mapping[str, Unet]  # by view
    folder: ResultFolder | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    findings: dict[str, list[Finding]] = field(default_factory=dict)  # by study
    lengths: dict[str, int] = field(default_factory=dict)  # frames so far, by clip

    @property
    def exit_code(self) -> int:
        """1 as soon as a file has failed."""
        return SOME_FAILED if self.failures else DONE

    def do(self, file: Recording) -> None:
        """Segment and measure one file; one that fails is named and does not stop the others."""
        row: dict[str, Any] = {"file": str(file.path), "view": file.view, "patient": file.patient}
        self.rows.append(row)
        try:
            film = echo_files.read(
                file.path,
                channels=self.arguments.channels,
                max_pixels=self.arguments.limit,
                cm_per_pixel=self.arguments.cm_per_pixel,
            )
            scale = film.cm_per_pixel
            model = self.models[file.view]
            stream = model.stream(film.arrays, channels=film.channels, cm_per_pixel=scale)
            clip = list(stream)
            height, width = clip[0].size
            scale = scale or FIELD_OF_VIEW_CM / max(height, width)
            findings = self._measure(file, clip, scale)
            self._keep(film, clip, findings)
        except OutputError:
            raise
        except FastsegError as error:
            row |= error_body(error)
            self.failures.append(f"{file.path}: {error}")
            return
        row |= {"frames": len(clip), "width": width, "height": height, "cm_per_pixel": scale}
        row["timings"] = sum((masks.timings for masks in clip), Timings()).as_dict()
        self.findings.setdefault(file.study, []).extend(chain.from_iterable(findings))

    def _measure(self, file: Recording, clip: list[Masks], scale: float) -> list[list[Finding]]:
        """The chambers of each frame, whose place goes on from earlier files of the clip."""
        name, start = file.clip(len(clip)), self.lengths.get(file.clip(len(clip)), 0)
        findings = []
        for index, masks in enumerate(clip):
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

    def _keep(
        self, film: echo_files.Frames, clip: list[Masks], findings: list[list[Finding]]
    ) -> None:
        """Write the masks and a picture of each frame, if a folder was asked for."""
        if self.folder is None:
            return
        for index, (masks, found) in enumerate(zip(clip, findings, strict=True)):
            place, shown = found[0].place, film.shown(index)
            name = self.folder.add(str(place), shown, masks, stem=film.stem(index))
            if self.arguments.overlay:
                title = f"{PurePath(str(place)).name} · {VIEWS[place.view].title}"
                legend = f"{_ran(self.models[place.view])} · mode {self.arguments.mode}"
                panel = EchoPanel(shown, masks, found, title, legend)
                self.folder.draw(name, picture.draw(panel))

    def studies(self) -> list[Study]:
        """The study of each patient, in the order in which they came."""
        return [
            study(
                findings,
                patient=patient,
                bsa_m2=self.arguments.bsa,
                frames_per_beat=self.arguments.frames_per_beat,
            )
            for patient, findings in self.findings.items()
        ]


class _NothingDoneError(Exception):
    """Every file failed, so that there is nothing to keep."""


@click.command()
@click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--view", type=click.Choice([*VIEWS]), help="Of all FRAMES, instead of by name.")
@click.option("--patient", help="Whose all FRAMES are, instead of by name.")
@click.option("--model", help="Network instead of the embedded one: a name or a model folder.")
@click.option(
    "--cm-per-pixel",
    type=click.FloatRange(min=0, min_open=True),
    help="Size of a pixel. Without it the longer side of a frame spans 20 cm.",
)
@click.option(
    "--channels",
    type=click.Choice(get_args(FrameChannels)),
    help="Order in .npy and .npz files, rgb unless told; as DICOM stores them, mostly ycbcr.",
)
@click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    default="default",
    show_default=True,
    help="How to measure; source: as published, quirks included.",
)
@click.option(
    "--bsa",
    type=click.FloatRange(min=0, min_open=True),
    help="Body surface area in m2, for indices.",
)
@click.option(
    "--frames-per-beat",
    type=click.FloatRange(min=0, min_open=True),
    help="Of clips; ranks several of one view. Without it a clip is two beats long.",
)
@picture_options
@runtime_options
@out_options
@json_option
@into(Arguments)
def echo(arguments: Arguments) -> Report:
    """Measure the heart's chambers in ultrasound FRAMES: pictures, .npy, .npz, or films of many.

    The view (a2c, a4c or sax) is told by --view or by the file's name, <patient>_<view>_..., and
    the files of one patient make one study. For research use only; not a medical device.
    """
    files = [
        echo_files.recognise(path, view=arguments.view, patient=arguments.patient)
        for path in arguments.frames
    ]
    with ExitStack() as stack:
        models = {
            view: stack.enter_context(_network(arguments, view))
            for view in dict.fromkeys(file.view for file in files)
        }
        return _work_through(files, models, arguments)


def _network(arguments: Arguments, view: str) -> Unet:
    """Load the network for a view.

    Raises:
        MeasurementError: The network that was named is for another view.
    """
    name = arguments.model or f"echo-{view}"
    model = load_unet(name, arguments.choice, max_pixels=arguments.limit)
    if (made_for := model.view) != view:
        model.close()
        raise MeasurementError(
            f"{name} was made for the view {made_for}, and there are frames of {view}. Leave "
            f"--model out, or name a network for {view}."
        )
    return model


def _work_through(
    files: Sequence[Recording], models: Mapping[str, Unet], arguments: Arguments
) -> Report:
    """Measure every file, and write the results if a folder was given and a file was measured."""
    work = _Work(arguments, models)
    networks = {view: model.provenance() for view, model in models.items()}
    info = {"models": networks, "settings": arguments.settings()}
    body: dict[str, Any] = {**info, "files": work.rows, "studies": []}
    studies: list[Study] = []
    with suppress(_NothingDoneError), ExitStack() as stack:
        if arguments.out is not None:
            contents, overwrite = Contents(overlays=False), arguments.overwrite
            writing = results.write(arguments.out, info, contents=contents, overwrite=overwrite)
            work.folder = stack.enter_context(writing)
        step = stack.enter_context(progress(len(files)))
        for file in files:
            step(file.path.name)
            work.do(file)
        if not work.findings:
            raise _NothingDoneError
        studies = work.studies()
        body["studies"] = [one.as_dict() for one in studies]
        if work.folder is not None:
            answer = document("echo", body, work.exit_code)
            work.folder.report(answer, name=MEASUREMENTS_FILE)
    out = arguments.out if studies else None
    body["out"] = None if out is None else str(out)
    text = tuple(_text(studies, models, arguments.mode, out))
    return Report("echo", body, text, work.exit_code, work.failures)


def _text(
    studies: Sequence[Study], models: Mapping[str, Unet], mode: Mode, out: Path | None
) -> Iterator[RenderableType]:
    for one in studies:
        yield from tables(one)
    if not studies:
        return
    ran = ", ".join(f"{view} by {_ran(model)}" for view, model in models.items())
    yield f"\n{ran}; mode {mode}"
    yield provenance.NOTICE
    if out is not None:
        yield f"results in {out}"


def _ran(model: Unet) -> str:
    """A network and what it ran on."""
    return f"{model.manifest.name} on {model.backend} {model.device} {model.precision}"
