"""Atomic writes: a file, or the files of a folder, are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastseg.errors import OutputError
from fastseg.storage.abandoned import remove_abandoned, unfinished_name
from fastseg.storage.owned import OwnedFile
from fastseg.storage.paths import real_path, user_path
from fastseg.storage.staging import NEW, is_taken, locked, publish, replaceable


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write one file: the block fills a temporary sibling, which then takes the name ``path``.

    Siblings that killed processes left in the folder are removed once they are an hour old.

    Args:
        path: The file to write. Missing parent folders are made; an existing file is replaced.

    Yields:
        A path that does not exist yet, in the same folder and with the same suffix.

    Raises:
        OutputError: The disk is full, the folder is not writable, or ``path`` is no plain file.
            Every ``OSError`` of the block counts as one, so do not read other files in it.
    """
    target = real_path(path)
    with _sibling(target, suffix=target.suffix) as temporary:
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {path}: it exists and is not a plain file.")
        yield temporary
        temporary.replace(target)


@contextmanager
def atomic_folder(
    path: str | os.PathLike[str],
    *,
    replace: bool = False,
    known: Iterable[OwnedFile] = (),
    last: str = "",
) -> Iterator[Path]:
    """Write files into one folder, which is complete once it holds its record, ``owned.RECORD``.

    The block fills a folder inside ``path``; its files are moved to their places when it ends
    well. The folder itself is not replaced: an existing one keeps its mode, group and mount.
    If the process is killed meanwhile, the next call takes back what it had moved.

    Args:
        path: The folder to write. It is made if it is missing, as are its parents.
        replace: Allow the files that fastseg wrote into it before to be replaced. A folder that
            holds anything else is refused.
        known: Files that fastseg wrote although the folder has no record of them.
        last: Name of the file that is moved after all others.

    Yields:
        An empty folder in ``path``.

    Raises:
        OutputError: The disk is full, the place is not writable, ``path`` is taken, or another
            process is writing into it. Every ``OSError`` of the block counts as one, so do not
            read other files in it.
    """
    given = user_path(path)
    target = real_path(given)
    with _made(target, (*reversed(target.parents), target)):
        if not target.is_dir():
            raise OutputError(f"cannot write the folder {path}: a file has this name.")
        with locked(target) as stage:
            before: tuple[OwnedFile, ...] = ()
            if is_taken(target):
                if not replace:
                    raise OutputError(
                        f"cannot write the folder {path}: it is not empty. Choose another name, "
                        "or ask for it to be overwritten."
                    )
                before = replaceable(given, known)
            new = stage / NEW
            new.mkdir()
            yield new
            if is_taken(target):
                before = replaceable(given, known)
            publish(target, before, last)


@contextmanager
def _sibling(target: Path, suffix: str = "") -> Iterator[Path]:
    """Choose a free name beside ``target``; nothing of that name is left when the block ends."""
    temporary = target.parent / unfinished_name(suffix)
    with _made(target, reversed(target.parents)):
        remove_abandoned(target.parent, once=True)
        try:
            yield temporary
        finally:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def _made(target: Path, folders: Iterable[Path]) -> Iterator[None]:
    """Make folders, and remove those that are empty at the end; turn OSError into OutputError."""
    made: list[Path] = []
    try:
        for folder in folders:
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                made.append(folder)
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or error
        raise OutputError(
            f"cannot write {target}: {reason}. Nothing was left behind; make room there, "
            "or choose a place that can be written."
        ) from error
    finally:
        # Only empty folders are removed: after a success none is empty.
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
