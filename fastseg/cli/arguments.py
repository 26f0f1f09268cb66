"""Options shared by several verbs, and the dataclasses that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.artifacts.manifest import SAM
from fastseg.cli.report import Report
from fastseg.errors import OutputError
from fastseg.guided.promptable import PromptModel
from fastseg.images import MAX_PIXELS
from fastseg.imaging import WINDOWS, MedicalImage
from fastseg.imaging.view import read_view
from fastseg.inference.sessions import Choice
from fastseg.loading import load_promptable, load_sam
from fastseg.results import refuse_foreign
from fastseg.sam.model import Sam
from fastseg.storage.paths import is_folder, user_path
from fastseg.storage.staging import is_taken

Arguments = TypeVar("Arguments")
Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_MODEL = "sam-nano"


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """The model, and the device, backend and precision to run it on."""

    model: str
    device: str
    backend: str
    precision: str
    threads: int

    def load(self) -> PromptModel:
        """Load a model that takes prompts; a device or backend given by name is used, or raises."""
        # The size limit applies where images are read, before the model gets them.
        return load_promptable(self.model, self.choice, max_pixels=None)

    def load_sam(self) -> Sam:
        """Load a model of SAM's family, as ``load``."""
        return load_sam(self.model, self.choice, max_pixels=None)

    def takes_prompts(self) -> bool:
        """Read from the model's folder, without loading it, if it takes any prompt.

        Raises:
            ModelError: There is no such model, or its folder cannot be read.
        """
        manifest = artifacts.read(registry.find(self.model), verify=False).manifest
        return manifest.family != SAM or manifest.sam_rules.prompts.any

    @property
    def choice(self) -> Choice:
        """Device, backend, precision and threads, as the loaders take them."""
        return Choice(self.device, self.backend, self.precision, self.threads)


@dataclass(frozen=True, kw_only=True)
class ImageArguments:
    """Limit on the size of images."""

    max_pixels: int

    @property
    def limit(self) -> int | None:
        """Largest height x width, None without a limit."""
        return self.max_pixels or None


@dataclass(frozen=True, kw_only=True)
class ViewArguments(ImageArguments):
    """Limit on the size of images, and what is seen of medical ones."""

    window: str | None
    frame: int | None

    def read(self, path: Path) -> tuple[NDArray[np.uint8], MedicalImage | None]:
        """Read one image, or a frame of a medical file in its window.

        Returns:
            uint8 (H, W, 3), and the frame with its geometry if the file is a medical one.

        Raises:
            ImageError: It cannot be read, needs a window, or has several frames and none is named.
        """
        return read_view(path, window=self.window, frame=self.frame, max_pixels=self.limit)

    def seen(self) -> dict[str, Any]:
        """Return the options that say what is seen, ready for JSON; none where none was given."""
        given = {"window": self.window, "frame": self.frame}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class OutArguments:
    """The result folder, and the drawing of overlays."""

    out: Path | None
    overwrite: bool
    overlay: bool

    def check_out(self, inputs: Iterable[Path]) -> None:
        """Refuse a result folder that cannot be written, before any model is loaded.

        Args:
            inputs: Files that the call reads.

        Raises:
            OutputError: ``out`` is not empty, and holds no results, something else beside them, an
                input of the call, or must not be overwritten.
        """
        if self.out is None:
            return
        refuse_foreign(self.out, inputs)
        out = user_path(self.out)
        if not self.overwrite and is_folder(out, OutputError) and is_taken(out):
            raise OutputError(f"{self.out}/ is not empty. Use another --out, or --overwrite.")


def into(
    kind: type[Arguments], *, rest: str = ""
) -> Callable[[Callable[[Arguments], Report]], Callable[..., Report]]:
    """Pass a verb its options as one ``kind``, a dataclass with a field for each option.

    Options without a field go as a dictionary into the field ``rest``, if it is named.
    """

    def decorate(verb: Callable[[Arguments], Report]) -> Callable[..., Report]:
        @wraps(verb)
        def call(**options: Any) -> Report:
            if rest:
                own = {field.name for field in fields(kind)}  # type: ignore[arg-type]
                others = {name: options.pop(name) for name in [*options] if name not in own}
                options[rest] = others
            return verb(kind(**options))

        return call

    return decorate


def json_option(command: Command) -> Command:
    """Add ``--json``; ``root.run`` reads it from argv, so that a bad call answers in JSON."""
    text = "Print one JSON document instead of text."
    return click.option("--json", is_flag=True, expose_value=False, help=text)(command)


def runtime_options(command: Command) -> Command:
    """Add ``--device --backend --precision --threads``."""
    for option in (
        click.option(
            "--threads",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Processor threads; 0 uses every available core.",
        ),
        click.option(
            "--precision",
            default="auto",
            show_default=True,
            help="auto, fp32, bf16, fp16 or int8.",
        ),
        click.option(
            "--backend",
            default="auto",
            show_default=True,
            help="auto, onnxruntime, openvino, native, tensorrt or tensorrt-rtx.",
        ),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1."
        ),
    ):
        command = option(command)
    return command


def model_options(command: Command) -> Command:
    """Add ``--model`` and the options of ``runtime_options``."""
    text = "Name of an embedded model, or a model folder."
    option = click.option("--model", default=DEFAULT_MODEL, show_default=True, help=text)
    return option(runtime_options(command))


def image_options(command: Command) -> Command:
    """Add ``--max-pixels``."""
    return click.option(
        "--max-pixels",
        type=click.IntRange(min=0),
        default=MAX_PIXELS,
        show_default=True,
        help="Refuse images with more pixels before they are decoded; 0 means no limit.",
    )(command)


def window_option(command: Command) -> Command:
    """Add ``--window``."""
    return click.option(
        "--window",
        metavar="WINDOW",
        help=f"Values that are seen of a medical or 16-bit file: {', '.join(WINDOWS)}, file, "
        "percentile:LOW,HIGH, nonzero:LOW,HIGH, medsam, or CENTRE,WIDTH. Default: the file's own.",
    )(command)


def view_options(command: Command) -> Command:
    """Add ``--frame`` and the options of ``window_option`` and ``image_options``."""
    frame = click.option(
        "--frame",
        type=click.IntRange(min=0),
        help="Frame of files that have several, from 0.",
    )
    return window_option(frame(image_options(command)))


def out_options(command: Command) -> Command:
    """Add ``--out --overwrite --overlay/--no-overlay``."""
    overlay = click.option(
        "--overlay/--no-overlay",
        default=True,
        show_default=True,
        help="Draw each image with its masks into --out.",
    )
    overwrite = click.option(
        "--overwrite", is_flag=True, help="Replace --out if it is an earlier result folder."
    )
    out = click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder for the results; it appears once it is complete. Default: write no files.",
    )
    return out(overwrite(overlay(command)))
