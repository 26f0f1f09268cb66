"""A cache folder that any number of processes share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from fastseg.errors import OutputError
from fastseg.storage.abandoned import remove_abandoned
from fastseg.storage.atomic import atomic_file

Value = TypeVar("Value")


class CacheFolder:
    """Files by key. The least recently used one is removed first when room is needed.

    Processes need no lock between them: a file gets its name when it is whole, and one that is gone
    or damaged when it is read counts as absent.

    Args:
        folder: The folder, which is created when the first file is written.
        max_bytes: Limit of the total size of the files.
        suffix: Suffix of their names, ``".npz"``. Files of another suffix are not touched.
    """

    def __init__(self, folder: Path, max_bytes: int, suffix: str) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.suffix = suffix

    def get(self, key: str, read: Callable[[Path], Value]) -> Value | None:
        """Read the file of ``key`` by ``read``.

        A file for which ``read`` raises any exception counts as damaged and is removed.

        Returns:
            The result of ``read``; None if there is no file, or it is damaged.
        """
        path = self._path(key)
        try:
            value = read(path)
        except Exception:  # a damaged file makes its reader raise anything
            _remove(path)
            return None
        _touch(path)
        return value

    def put(self, key: str, write: Callable[[Path], None]) -> None:
        """Write the file of ``key`` by ``write``, and remove others if room is needed.

        A file larger than ``max_bytes`` is not kept.

        Raises:
            OutputError: The folder cannot be written, or the disk is full.
        """
        path = self._path(key)
        # Created here for good: atomic_file would remove a folder that it created for a file that
        # failed, while another process may be about to write into it.
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
        """Total size of the files in bytes."""
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
        remove_abandoned(self.folder)

    def _entries(self) -> list[_Entry]:
        """List the whole files."""
        entries = []
        with suppress(OSError), os.scandir(self.folder) as files:
            for file in files:
                if file.name.endswith(self.suffix) and not file.name.startswith("."):
                    with suppress(OSError):
                        status = file.stat(follow_symlinks=False)
                        entries.append(_Entry(Path(file), status.st_size, status.st_mtime_ns))
        return entries


class _Entry(NamedTuple):
    path: Path
    bytes: int
    used_ns: int


def user_cache_folder() -> Path | None:
    """Find fastseg's cache folder of this user, by the XDG rules; None without a home."""
    asked = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if asked.is_absolute():
        return asked / "fastseg"
    try:
        return Path.home() / ".cache" / "fastseg"
    except RuntimeError:
        return None


def _touch(path: Path) -> None:
    """Mark a file as just used. The file system's own stamp is too coarse to order two calls."""
    now = time.time_ns()
    with suppress(OSError):
        os.utime(path, ns=(now, now))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
