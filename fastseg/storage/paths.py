"""Questions to the file system about paths from outside, with typed errors as answers."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from fastseg.errors import FastsegError, OutputError
from fastseg.inputs.numbers import shown

_ABSENT = (FileNotFoundError, NotADirectoryError)


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with a leading ``~`` replaced by the home folder, if there is one.

    Raises:
        OutputError: ``path`` is neither text nor a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise OutputError(f"a path must be text or a pathlib.Path, not {shown(path)}.")
    given = Path(path)
    with suppress(RuntimeError):
        return given.expanduser()
    return given


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file or folder to write, absolute and without links.

    Raises:
        OutputError: No path has this name, or the working folder was removed.
    """
    given = user_path(path)
    try:
        return Path(os.path.realpath(given))
    except (OSError, ValueError) as error:
        raise OutputError(_message(path, error)) from error


def is_folder(path: Path, error: type[FastsegError] | None = None) -> bool:
    """Tell whether a path is a folder.

    Args:
        path: The path.
        error: Type of the error for a path that cannot be looked at; None counts it as absent.

    Raises:
        FastsegError: Of the type ``error``: a folder above may not be entered, or the name is
            longer than the file system takes.
    """
    return stat.S_ISDIR(_mode(path, error))


def is_file(path: Path, error: type[FastsegError] | None = None) -> bool:
    """Tell whether a path is a plain file; arguments and errors are those of ``is_folder``."""
    return stat.S_ISREG(_mode(path, error))


def file_length(path: Path) -> int | None:
    """Return the length of a plain file in bytes; None if there is none, or none can be seen."""
    with suppress(OSError, ValueError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            return found.st_size
    return None


def names_in(folder: Path, error: type[FastsegError]) -> list[str]:
    """List the names in a folder, in order.

    Raises:
        FastsegError: Of the type ``error``: the folder cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError) as failure:
        raise error(_message(folder, failure)) from failure


def _mode(path: Path, error: type[FastsegError] | None) -> int:
    try:
        return path.stat().st_mode
    except _ABSENT:
        return 0
    except (OSError, ValueError) as failure:
        if error is None:
            return 0
        raise error(_message(path, failure)) from failure


def _message(path: str | os.PathLike[str], failure: Exception) -> str:
    reason = getattr(failure, "strerror", None) or failure
    return f"{path} cannot be looked at: {reason}. Check its name, and the folders above it."
