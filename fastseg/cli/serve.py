"""``fastseg serve``: masks over HTTP, and a page to make them with."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fastseg.cli.arguments import (
    ImageArguments,
    ModelArguments,
    image_options,
    into,
    json_option,
    model_options,
)
from fastseg.cli.report import Report
from fastseg.environment import needs_extra
from fastseg.inputs.text import printable

_MB = 2**20


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ImageArguments):
    """Options of ``fastseg serve``."""

    host: str
    port: int
    token_file: Path | None
    allow_origin: tuple[str, ...]
    allow_anyone: bool
    root: Path | None
    page: bool
    max_upload: int
    max_memory: int
    max_images: int
    keep: float
    workers: int
    max_waiting: int


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8765, show_default=True, help="0: a free one."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with a bearer token on each line; requests must carry one of them.",
)
@click.option(
    "--allow-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Web origin whose pages may use the server. Default: none but its own.",
)
@click.option(
    "--allow-anyone",
    is_flag=True,
    help="Listen at an address that other machines reach, without tokens.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder whose images may be opened by path. Default: uploads alone.",
)
@click.option(
    "--page/--no-page",
    default=True,
    show_default=True,
    help="Send the page at /, or the API alone.",
)
@click.option(
    "--max-upload", type=click.IntRange(min=1), default=256, show_default=True, help="MiB."
)
@click.option(
    "--max-memory",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="MiB for open images and their embeddings; the least used are closed.",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Images that are open at once.",
)
@click.option(
    "--keep",
    type=click.FloatRange(min=1),
    default=1800,
    show_default=True,
    help="Seconds without use after which an image is closed.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Requests that compute at once; 0 is one for each core.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Requests that wait; any further one gets 503.",
)
@image_options
@model_options
@json_option
@into(Arguments)
def serve(arguments: Arguments) -> Report:
    """Serve masks over HTTP, and a page to make them with, until interrupted."""
    with needs_extra("server", "fastseg serve"):
        from fastseg.server import Server
    settings = _settings(arguments)
    with arguments.load_sam() as model:
        server = Server(model, settings)
        about = ", ".join((model.manifest.name, model.backend, model.device, model.precision))
        sys.stderr.write(f"fastseg: serving {printable(about)} at {server.url}\n")
        server.run()
    return Report("serve", {}, ("The server has ended.",))


def _settings(arguments: Arguments) -> Any:
    from fastseg.server import Limits, Settings

    limits = Limits(
        max_bytes=arguments.max_upload * _MB,
        max_memory=arguments.max_memory * _MB,
        max_images=arguments.max_images,
        max_pixels=arguments.max_pixels or 2**32 - 1,
        image_s=arguments.keep,
        workers=arguments.workers,
        max_waiting=arguments.max_waiting,
    )
    return Settings(
        host=arguments.host,
        port=arguments.port,
        tokens=_tokens(arguments.token_file),
        origins=arguments.allow_origin,
        root=arguments.root,
        allow_anyone=arguments.allow_anyone,
        page=arguments.page,
        limits=limits,
    )


def _tokens(file: Path | None) -> tuple[str, ...]:
    """Read the tokens of a file, one a line.

    Raises:
        click.UsageError: The file cannot be read, or holds no token.
    """
    if file is None:
        return ()
    try:
        lines = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--token-file {file} cannot be read: {error}") from error
    if not lines:
        raise click.UsageError(f"--token-file {file} holds no token")
    return tuple(lines)
