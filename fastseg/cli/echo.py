"""``fastseg echo``: the chambers of the heart, and their measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import RenderableType

from fastseg import provenance, results
from fastseg.cli.arguments import (
    image_options,
    into,
    json_option,
    out_options,
    runtime_options,
)
from fastseg.cli.echo_batch import Arguments, EchoBatch, ran_on
from fastseg.cli.echo_output import EchoOutput
from fastseg.cli.echo_tables import tables
from fastseg.cli.progress import progress
from fastseg.cli.report import Report, document
from fastseg.echo import files as echo_files
from fastseg.echo.dicom import is_dicom
from fastseg.echo.files import EchoFile, StudyKey
from fastseg.echo.frames import FrameChannels
from fastseg.echo.report import FOUND_BY_NETWORKS, Study, find_view
from fastseg.echo.unet import Unet
from fastseg.echo.views import VIEWS
from fastseg.errors import MeasurementError, OutputError
from fastseg.inputs.text import printable
from fastseg.loading import load_unet
from fastseg.measure import Mode
from fastseg.results import Contents

MEASUREMENTS_FILE = "measurements.json"


class _AllFailedError(Exception):
    """Every file failed, so no result folder is written."""


@click.command()
@click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--view",
    type=click.Choice([*VIEWS]),
    help="View of all files. Default: by the header, the file name, the view of --model, else as "
    "the networks find it.",
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

    The view (a2c, a4c or sax) comes from --view, the codes of a DICOM header, the file name,
    <patient>_<view>_..., --model, or the networks where one view clearly fits. DICOM files whose
    headers name one patient and study make one study; other files that of a patient by their names
    in one folder. --patient joins all. For research use only; not a medical device.
    """
    arguments.check_out(arguments.frames)
    if arguments.sr and arguments.out is None:
        raise OutputError("--sr writes a DICOM SR into --out. Give --out.")
    if arguments.sr and (other := [path for path in arguments.frames if not is_dicom(path)]):
        raise MeasurementError(
            f"--sr writes a DICOM SR, which refers to DICOM files, and {other[0]} is none. Leave "
            "--sr out: CSV, JSON and a page are written without it."
        )
    with ExitStack() as stack:
        named = _load(arguments.model, arguments, stack) if arguments.model else None
        loaded: dict[str, Unet] = {}

        def network(view: str) -> Unet:
            if view not in loaded:
                loaded[view] = _load(f"echo-{view}", arguments, stack)
            return loaded[view]

        files = _recognised(arguments, named.view if named else None, network)
        views = dict.fromkeys(file.view for file in files)
        if named is None:
            models = {view: network(view) for view in views}
        else:
            _check_views(views, named, arguments.model)
            models = {named.view: named}
        # What a network of the user's expects of its masks is on another scale.
        compared = None if named else network
        return _run_batch(files, models, arguments, compared)


def _recognised(
    arguments: Arguments, default_view: str | None, network: Callable[[str], Unet]
) -> list[EchoFile]:
    """Take the view and the study of each file from the options, its header or its name.

    The view of a file that none of them names is found by the networks.
    """
    settings = arguments.settings()

    def view_in(path: Path) -> str:
        frames = settings.read(path)
        return find_view(
            frames.arrays,
            network,
            channels=frames.channels,
            cm_per_pixel=frames.cm_per_pixel,
            max_pixels=arguments.limit,
        )

    headers = echo_files.Headers()
    files = []
    for path in arguments.frames:
        header, group = headers.read(path)
        files.append(
            echo_files.recognise(
                path,
                view=arguments.view,
                patient=arguments.patient,
                default_view=default_view,
                header=header,
                group=group,
                find_view=view_in,
            )
        )
    return files


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
    settings = arguments.settings()
    batch = EchoBatch(settings, models, other_views=other_views)
    networks = {view: model.provenance() for view, model in models.items()}
    info: dict[str, Any] = {"models": networks, "settings": settings.as_dict()}
    if found := [file.path for file in files if file.view_found_by == "networks"]:
        info["cautions"] = [f"{path}: {FOUND_BY_NETWORKS}" for path in found]
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
        if not batch.clips.findings:
            raise _AllFailedError
        by_key = batch.clips.studies(settings)
        studies = [*by_key.values()]
        body["studies"] = [one.as_dict() for one in studies]
        if batch.output is not None:
            batch.output.add_studies(by_key, batch.clips.sources if arguments.sr else None)
            content = document("echo", body, batch.exit_code)
            batch.output.folder.report(content, name=MEASUREMENTS_FILE)
    out = arguments.out if studies else None
    body["out"] = None if out is None else str(out)
    text = tuple(_text(studies, models, arguments.mode, out))
    unwritten = batch.output.hints if batch.output is not None else ()
    hints = (*_cautions(batch.rows), *_hints(batch.clips.findings), *unwritten)
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
    ran = ", ".join(f"{view} by {ran_on(model)}" for view, model in models.items())
    yield f"\n{ran}; mode {mode}"
    yield provenance.NOTICE
    if out is not None:
        yield f"results in {printable(str(out))}"
