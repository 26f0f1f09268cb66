"""Atomic writes: a file or folder appears whole, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastseg.errors import OutputError


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write one file: the block fills a temporary sibling, which then takes the name ``path``.

    Args:
        path: The file to write. Missing parent folders are made; an existing file is replaced.

    Yields:
        A path that does not exist yet, in the same folder and with the same suffix.

    Raises:
        OutputError: The disk is full, the folder is not writable, or ``path`` is no plain file.
            Every ``OSError`` of the block counts as one, so do not read other files in it.
    """
    target = Path(os.path.realpath(path))
    with _sibling(target, suffix=target.suffix) as temporary:
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {path}: it exists and is not a plain file.")
        yield temporary
        temporary.replace(target)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Write one folder: the block fills a temporary sibling, which then takes the name ``path``.

    Args:
        path: The folder to write. Missing parent folders are made.
        replace: Allow a folder of that name that is not empty to be replaced as a whole.

    Yields:
        An empty folder beside ``path``.

    Raises:
        OutputError: The disk is full, the place is not writable, or ``path`` is taken.
            Every ``OSError`` of the block counts as one, so do not read other files in it.
    """
    target = Path(os.path.realpath(path))
    with _sibling(target) as temporary:
        if target.exists() and not target.is_dir():
            raise OutputError(f"cannot write the folder {path}: a file has this name.")
        if not replace and target.is_dir() and any(target.iterdir()):
            raise OutputError(
                f"cannot write the folder {path}: it is not empty. Choose another name, "
                "or ask for it to be overwritten."
            )
        temporary.mkdir()
        yield temporary
        _swap(temporary, target)


def _swap(temporary: Path, target: Path) -> None:
    """Rename ``temporary`` to ``target``; an earlier folder of that name is removed afterwards."""
    if not target.is_dir() or not any(target.iterdir()):
        temporary.replace(target)
        return
    with _sibling(target) as previous:
        target.replace(previous)
        try:
            temporary.replace(target)
        except BaseException:
            previous.replace(target)
            raise


@contextmanager
def _sibling(target: Path, suffix: str = "") -> Iterator[Path]:
    """Choose a free name beside ``target``; nothing of that name is left when the block ends."""
    made: list[Path] = []
    # A name of its own: with the target's in it, a long one would become too long.
    temporary = target.parent / f".fastseg-{secrets.token_hex(8)}{suffix}"
    try:
        for parent in reversed(target.parents):
            if not parent.exists():
                parent.mkdir(exist_ok=True)
                made.append(parent)
        yield temporary
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or error
        raise OutputError(
            f"cannot write {target}: {reason}. Nothing was left behind; make room there, "
            "or choose a place that can be written."
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink()
        # Only empty folders are removed: after a success none is empty.
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()
