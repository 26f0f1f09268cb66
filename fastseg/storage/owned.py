"""The record of the files that fastseg wrote into a folder; no other file is ever removed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fastseg.errors import OutputError

RECORD = ".fastseg-files.json"
"""Name of the record in a folder. It is written last, so a folder that has one is complete."""

UNFINISHED = ".fastseg-unfinished"
"""Name of the folder that holds what is being written, until it is complete."""

_RECORD_BYTES = 64 * 2**20
_NAMED = 3


class OwnedFile(NamedTuple):
    """A file that fastseg wrote: its path in the folder, with ``/``, and its SHA-256 hash."""

    file: str
    sha256: str


def sha256(path: Path) -> str:
    """Hash the content of a file in constant memory."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(2**20))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(buffer):
            digest.update(buffer[:length])
    return digest.hexdigest()


def describe(folder: Path) -> tuple[OwnedFile, ...]:
    """List every plain file in a folder that fastseg has just written."""
    return tuple(OwnedFile(file, sha256(folder / file)) for file, plain in _walk(folder) if plain)


def write_record(path: Path, files: Iterable[OwnedFile]) -> None:
    """Write a record of ``files``."""
    entries = [{"file": file, "sha256": digest} for file, digest in files]
    # Names that are not UTF-8 are escaped, and come back as they were.
    path.write_text(json.dumps({"schema": 1, "files": entries}, indent=1), encoding="ascii")


def read_record(path: Path) -> tuple[OwnedFile, ...] | None:
    """Read a record; None if there is none, or it was not written by fastseg."""
    try:
        if path.is_symlink() or path.stat().st_size > _RECORD_BYTES:
            return None
        entries = json.loads(path.read_text(encoding="ascii"))["files"]
        return tuple(OwnedFile(str(one["file"]), str(one["sha256"])) for one in entries)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def owned_files(
    folder: Path, known: Iterable[OwnedFile] = (), *, without: str | None = None
) -> tuple[OwnedFile, ...]:
    """List the files of a folder, all of which must be fastseg's.

    Args:
        folder: The folder.
        known: Files that are fastseg's although the folder has no record of them.
        without: Name of a folder in it that is not looked into.

    Raises:
        OutputError: The folder is a link, or holds something else: a file that is not recorded, or
            that changed since, a link, or a folder without a recorded file. The message names it.
    """
    if folder.is_symlink():
        raise OutputError(
            f"{folder} is a link, and nothing is removed through a link. Name the folder itself."
        )
    record = read_record(folder / RECORD)
    recorded = {*known, *(record or ())}
    places = {str(parent) for file, _ in recorded for parent in PurePosixPath(file).parents}
    found: list[OwnedFile] = []
    foreign: list[OwnedFile] = []
    for name, plain in _walk(folder):
        if name.split("/")[0] == without or (name == RECORD and record is not None):
            continue
        if plain and any(file == name for file, _ in recorded):
            one = OwnedFile(name, sha256(folder / name))
            (found if one in recorded else foreign).append(one)
        elif plain or name not in places or (folder / name).is_symlink():
            foreign.append(OwnedFile(name, ""))
    if foreign:
        names = ", ".join(name for name, _ in foreign[:_NAMED])
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise OutputError(
            f"{folder} holds {names}{more}, which fastseg did not write or which changed since, so "
            "nothing was removed. Move it elsewhere, or choose another folder."
        )
    return tuple(found)


def remove(folder: Path, known: Iterable[OwnedFile] = ()) -> None:
    """Remove a folder in which every file is fastseg's.

    Args:
        folder: The folder.
        known: Files that are fastseg's although the folder has no record of them.

    Raises:
        OutputError: It is a link, holds something else, or cannot be removed.
    """
    try:
        files = owned_files(folder, known)
        for file, _ in files:
            (folder / file).unlink()
        (folder / RECORD).unlink(missing_ok=True)
        remove_empty(folder, files)
        folder.rmdir()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or error
        raise OutputError(f"cannot remove {folder}: {reason}. Check its owner.") from error


def remove_empty(folder: Path, files: Iterable[OwnedFile]) -> None:
    """Remove the folders inside ``folder`` that held ``files`` and hold nothing now."""
    places = {parent for file, _ in files for parent in PurePosixPath(file).parents[:-1]}
    for place in sorted(places, key=lambda place: -len(place.parts)):
        with suppress(OSError):
            (folder / place).rmdir()


def _walk(folder: Path, inside: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the path of everything in a folder, and True for plain files; no link is followed."""
    with os.scandir(folder / inside) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{inside}{entry.name}"
            yield name, entry.is_file(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, f"{name}/")
