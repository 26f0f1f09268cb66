"""The files of a folder while they are written: a folder inside it, and the moves to their places.

The moves are undone if they fail, and by the next call if the process was killed among them: the
record of the folder goes first and comes back last, so a folder with a record is complete.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastseg.errors import OutputError
from fastseg.storage.owned import (
    RECORD,
    UNFINISHED,
    OwnedFile,
    describe,
    owned_files,
    read_record,
    remove_empty,
    sha256,
    write_record,
)
from fastseg.storage.paths import is_folder, names_in

NEW, _OLD, _PLAN = "new", "old", "files.json"

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def is_taken(folder: Path) -> bool:
    """Tell whether a folder holds anything beside what is being written.

    Raises:
        OutputError: The folder cannot be read.
    """
    return any(name != UNFINISHED for name in names_in(folder, OutputError))


def replaceable(folder: Path, known: Iterable[OwnedFile] = ()) -> tuple[OwnedFile, ...]:
    """List the files of a folder, all of which must be fastseg's, beside what is being written.

    Raises:
        OutputError: As ``owned.owned_files``.
    """
    return owned_files(folder, known, without=UNFINISHED)


def take_back(folder: Path) -> None:
    """Remove what a killed process left in a folder, and put back what it was about to replace.

    Raises:
        OutputError: Another process is writing there, or the folder of unfinished files holds
            something that fastseg did not put there.
    """
    if not is_folder(folder / UNFINISHED, OutputError):
        return
    try:
        with _locked(folder / UNFINISHED, needed=True):
            _undo(folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot remove {folder / UNFINISHED}: {error.strerror or error}. Check its owner."
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Make the folder of unfinished files in ``folder`` and lock it; it is gone at the end.

    Raises:
        OutputError: As ``take_back``.
    """
    take_back(folder)
    stage = folder / UNFINISHED
    try:
        stage.mkdir()
    except FileExistsError as error:
        raise _busy(folder) from error
    with _locked(stage):
        try:
            yield stage
        finally:
            _undo(folder)


def publish(folder: Path, before: Iterable[OwnedFile], last: str) -> None:
    """Move new files to their places, after the files ``before``; what fails is undone by the lock.

    Args:
        folder: The folder, which holds a folder of unfinished files.
        before: Files of it that are replaced.
        last: Name of the file that is moved after all others.
    """
    stage, before = folder / UNFINISHED, tuple(before)
    files = sorted(describe(stage / NEW), key=lambda one: one.file == last)
    write_record(stage / RECORD, files)
    if before and read_record(folder / RECORD) is None:
        write_record(folder / RECORD, before)
    write_record(stage / _PLAN, files)
    old = [RECORD] if before else []
    for file in (*old, *(one.file for one in reversed(before))):
        _move(folder / file, stage / _OLD / file)
    remove_empty(folder, before)
    for one in files:
        _move(stage / NEW / one.file, folder / one.file)
    _move(stage / RECORD, folder / RECORD)


def _undo(folder: Path) -> None:
    """Take back the moves unless the folder is complete; remove the folder of unfinished files."""
    stage = folder / UNFINISHED
    if not stage.is_dir():
        return
    strange = {path.name for path in stage.iterdir()} - {NEW, _OLD, _PLAN, RECORD}
    if strange:
        raise OutputError(
            f"{stage} holds {sorted(strange)[0]}, which fastseg did not write. Move it elsewhere."
        )
    plan = read_record(stage / _PLAN)
    if plan is not None and not (folder / RECORD).exists():
        for one in plan:
            place = folder / one.file
            if not (stage / NEW / one.file).exists() and _is(place, one):
                place.unlink()
        remove_empty(folder, plan)
        # The record comes last: with it the folder is complete again.
        before = read_record(stage / _OLD / RECORD) or ()
        for file in (*(one.file for one in before), *([RECORD] if before else [])):
            if (stage / _OLD / file).exists():
                _move(stage / _OLD / file, folder / file)
    shutil.rmtree(stage, ignore_errors=True)


def _is(path: Path, one: OwnedFile) -> bool:
    return path.is_file() and not path.is_symlink() and sha256(path) == one.sha256


def _move(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    source.replace(place)


@contextmanager
def _locked(stage: Path, *, needed: bool = False) -> Iterator[None]:
    """Hold the lock of a folder; the system frees it when the process ends, however it ends.

    A file system without locks raises OutputError where the lock is ``needed``.
    """
    descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if needed or error.errno not in _NO_LOCKS:
                raise _busy(stage.parent) from error
        # Another process may have removed the folder before its lock was free.
        if not os.path.samestat(os.fstat(descriptor), stage.lstat()):
            raise _busy(stage.parent)
        yield
    finally:
        os.close(descriptor)


def _busy(folder: Path) -> OutputError:
    return OutputError(
        f"another process is writing into {folder}. Wait for its end, or choose another folder; "
        f"if there is none, remove {folder / UNFINISHED}."
    )
