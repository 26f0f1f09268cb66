"""Single files while they are written, and those that a killed process left behind."""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"\.fastseg-[0-9a-f]{16}(\.[^.]*)?")

_ABANDONED_NS = 3600 * 10**9
"""Age from which an unfinished file counts as left behind by a process that was killed."""

_searched: set[Path] = set()
"""Folders in which this process has looked for such files."""


def unfinished_name(suffix: str) -> str:
    """Make a name for a file that is being written.

    It is a name of its own: with the target's in it, a long one would become too long.
    """
    return f".fastseg-{secrets.token_hex(8)}{suffix}"


def remove_abandoned(folder: Path, *, once: bool = False) -> None:
    """Remove the unfinished files of a folder that were not written to for an hour.

    What cannot be removed stays.

    Args:
        folder: The folder.
        once: Look only if this process has not looked there before. A folder of many results is
            then not listed for each of them.
    """
    if once and folder in _searched:
        return
    _searched.add(folder)
    with suppress(OSError), os.scandir(folder) as files:
        for file in files:
            if _NAME.fullmatch(file.name) and _is_abandoned(file):
                with suppress(OSError):
                    Path(file).unlink()


def _is_abandoned(file: os.DirEntry[str]) -> bool:
    try:
        age = time.time_ns() - file.stat(follow_symlinks=False).st_mtime_ns
        return file.is_file(follow_symlinks=False) and age > _ABANDONED_NS
    except OSError:
        return False
