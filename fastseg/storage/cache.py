"""What can be made again, kept in a folder that any number of processes share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from fastseg.errors import OutputError
from fastseg.storage.atomic import atomic_file

Value = TypeVar("Value")

_ABANDONED_NS = 3600 * 10**9
"""A file that was being written so long ago is what a process that was killed left behind."""


class CacheFolder:
    """Files under keys. The one that was not used for longest goes first when room is needed.

    Processes need no lock between them: a file is renamed into its place when it is whole, and
    one that is gone or damaged when it is read is no more than not there.

    Args:
        folder: Where the files are; made when the first is written.
        max_bytes: Most that the files hold together.
        suffix: Ending of their names, ``".npz"``. Files that end otherwise are not touched.
    """

    def __init__(self, folder: Path, max_bytes: int, suffix: str) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.suffix = suffix

    def get(self, key: str, read: Callable[[Path], Value]) -> Value | None:
        """What ``read`` makes of the file of ``key``; None if there is none, or it is damaged.

        A file that ``read`` refuses, by any exception, is removed.
        """
        path = self._path(key)
        try:
            value = read(path)
        except Exception:  # a damaged file shows in whatever way its reader stumbles
            _remove(path)
            return None
        _touch(path)
        return value

    def put(self, key: str, write: Callable[[Path], None]) -> None:
        """Keep what ``write`` writes to the path that it is given, and make room for it.

        A file larger than ``max_bytes`` is not kept.

        Raises:
            OutputError: The folder cannot be written, or the disk is full.
        """
        path = self._path(key)
        # Made for good: a folder that was made for one file would go again with it, under the
        # hands of the next process.
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder}: {error.strerror or error}. Choose a folder that can "
                "be written."
            ) from error
        with atomic_file(path) as temporary:
            write(temporary)
        _touch(path)
        self._make_room()

    @property
    def bytes(self) -> int:
        """What the files hold together now."""
        return sum(entry.bytes for entry in self._entries())

    def clear(self) -> None:
        """Remove every file that can be removed."""
        for entry in self._entries():
            _remove(entry.path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{self.suffix}"

    def _make_room(self) -> None:
        entries = sorted(self._entries(), key=lambda entry: entry.used_ns)
        held = sum(entry.bytes for entry in entries)
        for entry in entries:
            if held <= self.max_bytes:
                break
            _remove(entry.path)
            held -= entry.bytes
        for entry in self._entries(unfinished=True):
            if time.time_ns() - entry.used_ns > _ABANDONED_NS:
                _remove(entry.path)

    def _entries(self, *, unfinished: bool = False) -> list[_Entry]:
        """Every file that is there whole, or every one that is being written."""
        entries = []
        with suppress(OSError), os.scandir(self.folder) as files:
            for file in files:
                if file.name.endswith(self.suffix) and file.name.startswith(".") == unfinished:
                    with suppress(OSError):
                        status = file.stat(follow_symlinks=False)
                        entries.append(_Entry(Path(file), status.st_size, status.st_mtime_ns))
        return entries


class _Entry(NamedTuple):
    path: Path
    bytes: int
    used_ns: int


def user_cache_folder() -> Path | None:
    """The folder that this user's programs cache in, by the XDG rules; None without a home."""
    asked = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if asked.is_absolute():
        return asked / "fastseg"
    try:
        return Path.home() / ".cache" / "fastseg"
    except RuntimeError:
        return None


def _touch(path: Path) -> None:
    """Mark a file as just used. The system's own stamp is too coarse to tell two calls apart."""
    now = time.time_ns()
    with suppress(OSError):
        os.utime(path, ns=(now, now))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
