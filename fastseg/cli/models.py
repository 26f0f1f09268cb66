"""``fastseg models``: list, pull, verify and remove models."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.artifacts.pulling import OFFLINE, pull, pulled_file
from fastseg.cli.arguments import into, json_option
from fastseg.cli.progress import progress
from fastseg.cli.report import DONE, SOME_FAILED, Report, Table, error_body, failure_line
from fastseg.errors import FastsegError, ModelFolderError
from fastseg.inputs.text import printable
from fastseg.storage.paths import real_path


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(context: click.Context) -> Report | None:
    """List, pull, verify and remove models."""
    return _list() if context.invoked_subcommand is None else None


@models.command("ls")
@json_option
def list_() -> Report:
    """List the models that come with fastseg, and those that it can export."""
    return _list()


@dataclass(frozen=True, kw_only=True)
class PullArguments:
    """Options of ``fastseg models pull``."""

    name: str
    source: str
    sha256: str | None
    out: Path | None
    offline: bool


@models.command("pull")
@click.argument("name")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="FOLDER|URL",
    help="Folder that holds the weights, their file, or their address.",
)
@click.option("--sha256", metavar="HEX", help="Hash of the file, where fastseg knows none.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the file. Default: the user's cache."
)
@click.option("--offline", is_flag=True, help=f"Refuse addresses, as {OFFLINE}=1 does.")
@json_option
@into(PullArguments)
def pull_(arguments: PullArguments) -> Report:
    """Fetch the weights of the published model NAME, and check their hash.

    A download that was interrupted goes on where it stopped. The file appears whole, with the right
    content, or not at all.
    """
    with progress(None) as step:
        found = pull(
            arguments.name,
            arguments.source,
            sha256=arguments.sha256,
            out=arguments.out,
            offline=arguments.offline,
            progress=lambda done, total: step(_transferred(done, total)),
        )
    body = {
        "name": found.card.name,
        "path": str(found.path),
        "sha256": found.sha256,
        "fresh": found.fresh,
        "licence": found.card.licence,
    }
    verb = "pulled" if found.fresh else "already there"
    path = printable(str(found.path))
    text = (
        f"{verb}: {path}",
        f"licence: {found.card.licence}",
        f"next: fastseg export {path} --out {found.card.name}",
    )
    return Report("models pull", body, text)


def _transferred(done: int, total: int | None) -> str:
    return f"{done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f} MB" if total else "")


@dataclass(frozen=True, kw_only=True)
class VerifyArguments:
    """Options of ``fastseg models verify``."""

    names: tuple[str, ...]


@models.command()
@click.argument("names", nargs=-1)
@json_option
@into(VerifyArguments)
def verify(arguments: VerifyArguments) -> Report:
    """Compare every file of the models NAMES with its hash.

    NAMES are embedded models or model folders. Default: all embedded models.
    """
    names = arguments.names or tuple(folder.name for folder in registry.embedded_folders())
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    with progress(len(names)) as step:
        for name in names:
            step(name)
            row: dict[str, Any] = {"name": name}
            rows.append(row)
            try:
                folder = artifacts.read(registry.find(name))
                row |= {"folder": str(folder.path), "graphs": len(folder.manifest.graphs)}
            except FastsegError as error:
                row |= error_body(error)
                failures.append(failure_line(name, error))
    text = [
        f"{printable(row['name'])}: {row['graphs']} graphs, whole"
        for row in rows
        if "graphs" in row
    ]
    code = SOME_FAILED if failures else DONE
    return Report("models verify", {"models": rows}, text, code, failures)


@dataclass(frozen=True, kw_only=True)
class RemoveArguments:
    """Options of ``fastseg models rm``."""

    folder: Path
    yes: bool


@models.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
@into(RemoveArguments)
def rm(arguments: RemoveArguments) -> Report:
    """Remove a model FOLDER. A folder that holds anything else, or a link, is refused."""
    folder = arguments.folder
    if not artifacts.is_model_folder(folder):
        raise ModelFolderError(
            f"{folder} is not a model folder, so it is not removed. Name a model folder."
        )
    if real_path(folder).parent == real_path(registry.EMBEDDED):
        raise ModelFolderError(
            f"{folder} is a part of fastseg, so it is not removed. Uninstall fastseg to remove it."
        )
    if not arguments.yes and not _confirmed(f"Remove {folder}?"):
        raise click.UsageError(f"{folder} was not removed. Pass --yes to remove it without asking.")
    artifacts.remove(folder)
    return Report("models rm", {"removed": str(folder)}, (f"removed {printable(str(folder))}",))


def _confirmed(question: str) -> bool:
    """Ask on a terminal, and return True for a yes."""
    return sys.stdin.isatty() and click.confirm(question, err=True)


def _list() -> Report:
    cards = registry.list_models()
    pulled = {card.name: None if card.embedded else pulled_file(card) for card in cards}
    rows = [
        {
            "name": card.name,
            "family": card.family,
            "embedded": card.embedded,
            "description": card.description,
            "licence": card.licence,
            "exportable": card.exportable,
            "page": card.page,
            "folder": card.folder and str(card.folder),
            "checkpoint": card.checkpoint and card.checkpoint.file,
            "bytes": card.checkpoint and card.checkpoint.bytes,
            "sha256": card.checkpoint and card.checkpoint.sha256,
            "prompts": card.prompts,
            "modality": card.modality,
            "preprocess": None if card.embedded else card.preparation,
            "ran_here": card.ran_here,
            "pulled": pulled[card.name] and str(pulled[card.name]),
        }
        for card in cards
    ]
    columns = ("name", "here", "licence", "prompts", "images", "MB", "ran here", "description")
    table = Table(*columns, box=None, pad_edge=False)
    for card in cards:
        here = "yes" if card.embedded else "pulled" if pulled[card.name] else "export it"
        length = card.checkpoint.bytes if card.checkpoint else None
        size = f"{length / 1e6:.0f}" if length else "-"
        prompts = card.prompts or "none"
        words = (card.name, here, card.licence, prompts, card.modality, size, card.ran_here)
        table.add_row(*words, card.description)
    return Report("models ls", {"models": rows}, (table,))
