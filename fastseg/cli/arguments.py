"""Options that several verbs share, and the dataclass that a verb receives them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from fastseg.cli.report import Report
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError
from fastseg.images import MAX_PIXELS
from fastseg.inference.sessions import Choice
from fastseg.loading import load_sam
from fastseg.sam.model import Sam

Arguments = TypeVar("Arguments")
Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_MODEL = "sam-nano"


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """Which model runs, and on what."""

    model: str
    device: str
    backend: str
    precision: str
    threads: int

    def load(self) -> Sam:
        """Load a model that takes prompts; what was named is used or raises."""
        # Pictures are read, and limited, before the model sees them.
        return load_sam(self.model, self.choice, max_pixels=None)

    @property
    def choice(self) -> Choice:
        """What the model is to run on."""
        return Choice(self.device, self.backend, self.precision, self.threads)


@dataclass(frozen=True, kw_only=True)
class PictureArguments:
    """Which pictures are accepted."""

    max_pixels: int

    @property
    def limit(self) -> int | None:
        """Largest height x width, None without a limit."""
        return self.max_pixels or None


@dataclass(frozen=True, kw_only=True)
class OutArguments:
    """Where results go, and what is drawn."""

    out: Path | None
    overwrite: bool
    overlay: bool


def into(kind: type[Arguments]) -> Callable[[Callable[[Arguments], Report]], Callable[..., Report]]:
    """Hand a verb its options as one ``kind``, whose fields are the options' names."""

    def decorate(verb: Callable[[Arguments], Report]) -> Callable[..., Report]:
        @wraps(verb)
        def call(**options: Any) -> Report:
            return verb(kind(**options))

        return call

    return decorate


def json_option(command: Command) -> Command:
    """``--json``; ``root.run`` looks for it itself, so that even a bad call answers in JSON."""
    text = "Print one JSON document instead of text."
    return click.option("--json", is_flag=True, expose_value=False, help=text)(command)


def runtime_options(command: Command) -> Command:
    """``--device --backend --precision --threads``."""
    for option in (
        click.option(
            "--threads",
            type=click.IntRange(min=0),
            default=0,
            help="Processor threads; 0 is every core that may be used.",
        ),
        click.option("--precision", default="auto", help="auto, fp32, bf16, fp16 or int8."),
        click.option(
            "--backend", default="auto", help="auto, onnxruntime, openvino, tensorrt, tensorrt-rtx."
        ),
        click.option("--device", default="auto", help="auto, cpu, cuda or cuda:1."),
    ):
        command = option(command)
    return command


def model_options(command: Command) -> Command:
    """``--model`` and what it runs on."""
    text = "An embedded model's name, or a model folder."
    option = click.option("--model", default=DEFAULT_MODEL, show_default=True, help=text)
    return option(runtime_options(command))


def picture_options(command: Command) -> Command:
    """``--max-pixels``."""
    return click.option(
        "--max-pixels",
        type=click.IntRange(min=0),
        default=MAX_PIXELS,
        show_default=True,
        help="Refuse larger pictures before they are decoded; 0 lifts the limit.",
    )(command)


def out_options(command: Command) -> Command:
    """``--out --overwrite --overlay/--no-overlay``."""
    overlay = click.option(
        "--overlay/--no-overlay", default=True, help="Draw each image with its masks."
    )
    overwrite = click.option(
        "--overwrite", is_flag=True, help="Replace an earlier result folder of that name."
    )
    out = click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder for the results, written whole or not at all. Without it nothing is written.",
    )
    return out(overwrite(overlay(command)))


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a package that is missing inside the block into an error that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            f"the extra {extra!r}",
            reason=f"{error.name} is not installed",
            remedy=install_hint(extra),
        ) from error
