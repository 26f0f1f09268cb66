"""The journal of a cohort: a line of JSON an item, on the disk before the next item is reported."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fastseg.errors import OutputError
from fastseg.results import to_json


class Journal:
    """An open journal, locked for this process; see ``open_journal``."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.entries: dict[str, dict[str, Any]] = {}
        """The last entry of each item, by its key."""
        self._read()

    def _read(self) -> None:
        """Read the entries, and cut off a line that a killed process did not finish."""
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        self._file.seek(whole)
        # Parts of another number may have done some of the items.
        for path in sorted(self.path.parent.glob("journal*.jsonl")):
            if path != self.path:
                self.entries |= _entries(path.read_bytes())
        self.entries |= _entries(content[:whole])

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry and wait until the disk has it.

        Raises:
            OutputError: The disk is full, or the file cannot be written.
        """
        line = to_json({**entry}).replace("\n", " ") + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}. Make room, then go on by "
                "--resume."
            ) from error


def _entries(content: bytes) -> dict[str, dict[str, Any]]:
    """Read the lines of a journal; the item of a damaged one is done once more."""
    found = {}
    for line in content.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            found[str(entry["item"])] = dict(entry)
    return found


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open a journal, or begin one.

    Raises:
        OutputError: Another process writes into it, or it cannot be opened.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except OSError as error:
        raise OutputError(f"cannot open {path}: {error.strerror or error}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"another process is working on {path.parent}. Wait for its end, choose another "
                "folder, or share the work by --num-parts and --part-id."
            ) from error
        yield Journal(path, file)
