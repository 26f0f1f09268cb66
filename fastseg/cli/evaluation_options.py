"""Options that the protocols of ``fastseg evaluate`` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from fastseg import environment
from fastseg.cli.arguments import DEFAULT_MODEL, json_option, runtime_options
from fastseg.errors import OutputError
from fastseg.evaluation import report as reports
from fastseg.evaluation.dataset import ViewSettings
from fastseg.evaluation.dataset.example import Intensity
from fastseg.evaluation.protocols import Points, Protocol
from fastseg.evaluation.protocols.base import SLOTS
from fastseg.inference.sessions import Choice
from fastseg.ops import Metric
from fastseg.storage.paths import is_folder, user_path
from fastseg.storage.staging import is_taken

Command = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class OutFilesArguments:
    """The result folder of an evaluation."""

    out: Path | None
    overwrite: bool
    page: bool

    def check_out(self, inputs: Sequence[Path]) -> None:
        """Refuse a result folder before anything is computed.

        Raises:
            OutputError: It is taken, or holds something else than an evaluation.
            BackendUnavailableError: The page is asked for without the extra.
        """
        if self.out is None:
            return
        if self.page:
            with environment.needs_extra("report", "writing report.html (or pass --no-page)"):
                import jinja2  # noqa: F401 - to find out that they are there
                import matplotlib  # noqa: F401
        reports.check_out(self.out, inputs)
        out = user_path(self.out)
        if not self.overwrite and is_folder(out, OutputError) and is_taken(out):
            raise OutputError(f"{self.out}/ is not empty. Use another --out, or --overwrite.")


@dataclass(frozen=True, kw_only=True)
class EvaluationArguments(OutFilesArguments):
    """Options that every protocol has."""

    data: Path
    model: tuple[str, ...]
    resume: bool
    seed: int
    window: str | None
    spacing: tuple[float, float] | None
    intensity: Intensity | None
    device: str
    backend: str
    precision: str
    threads: int

    @property
    def choice(self) -> Choice:
        """Device, backend, precision and threads, as the loaders take them."""
        return Choice(self.device, self.backend, self.precision, self.threads)

    def view(self, protocol: Protocol) -> ViewSettings:
        """Return how files become images, by the protocol's rule where none is given."""
        return ViewSettings(self.window, self.intensity or protocol.intensity, self.spacing)


def out_files_options(command: Command) -> Command:
    """Add ``--out --overwrite --page/--no-page``."""
    for option in (
        click.option(
            "--page/--no-page",
            default=True,
            show_default=True,
            help="Write report.html, which needs the extra report.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation in --out."),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help="Folder for the results; it appears once it is complete. Default: print only.",
        ),
    ):
        command = option(command)
    return command


def shared_options(command: Command) -> Command:
    """Add DATA and the options of ``EvaluationArguments``."""
    for option in (
        json_option,
        runtime_options,
        click.option(
            "--intensity",
            type=click.Choice(get_args(Intensity)),
            help="Levels as in the file, or divided by the maximum of each image. Default: as the "
            "study has it.",
        ),
        click.option(
            "--spacing",
            nargs=2,
            type=click.FloatRange(min=0, min_open=True),
            help="Height and width of a pixel in mm, instead of the file's.",
        ),
        click.option("--window", help="Values that are seen, as for fastseg segment."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
        click.option("--resume", is_flag=True, help="Go on with a run that was interrupted."),
        out_files_options,
        click.option(
            "--model",
            multiple=True,
            default=(DEFAULT_MODEL,),
            show_default=True,
            help="Name of an embedded model, or a model folder; may be given several times.",
        ),
        click.argument("data", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def slot_option(protocol: type[Protocol]) -> Callable[[Command], Command]:
    """Add ``--slot``, with the protocol's own order as default."""
    return click.option(
        "--slot",
        "slots",
        multiple=True,
        type=click.Choice(SLOTS),
        default=getattr(protocol, "slots"),  # noqa: B009 - not every protocol has the field
        show_default=True,
        help="Mask of the three that is scored; may be given several times. Figures show the "
        "first.",
    )


metric_option = click.option(
    "--distance",
    type=click.Choice(get_args(Metric)),
    default=Points.distance,
    show_default=True,
    help="Metric of depth: chamfer is that of the authors.",
)
