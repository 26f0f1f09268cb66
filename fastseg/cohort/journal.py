"""The journal of a cohort: a line of JSON an item, on the disk before the next item is reported."""

from __future__ import annotations

import fcntl
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from fastseg.errors import OutputError
from fastseg.results import to_json


class Journal(ABC):
    """The end of every item that was done, and how it ended."""

    entries: dict[str, dict[str, Any]]
    """The last entry of each item, by its key."""

    @abstractmethod
    def refresh(self) -> None:
        """Read the entries of other parts again, which may have done some of the items."""

    @abstractmethod
    def add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry, and wait until it lasts.

        Raises:
            OutputError: The disk is full, or it cannot be written.
        """


class FileJournal(Journal):
    """A journal of lines in a file, locked for this process; see ``open_journal``."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.entries = {}
        self._read()

    def _read(self) -> None:
        """Read the entries, and cut off a line that a killed process did not finish."""
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        self._file.seek(whole)
        self._own = _entries(content[:whole])
        self.refresh()

    def refresh(self) -> None:
        """Read the journals of other parts again, which may have done some of the items."""
        for path in sorted(self.path.parent.glob("journal*.jsonl")):
            if path != self.path:
                self.entries |= _entries(path.read_bytes())
        self.entries |= self._own

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry and wait until the disk has it.

        Raises:
            OutputError: The disk is full, or the file cannot be written.
        """
        try:
            self._file.write(_line(entry))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}. Make room, then go on by "
                "--resume."
            ) from error
        self._own[str(entry["item"])] = self.entries[str(entry["item"])] = {**entry}


class ObjectJournal(Journal):
    """A journal of objects, one an item, where no file can be appended to.

    It has no lock: two runs that do the same item write the same result and the same entry.

    Args:
        write: Writes an object by its name.
        read: Yields the content of all objects of the journal.
    """

    def __init__(
        self, write: Callable[[str, bytes], None], read: Callable[[], Iterable[bytes]]
    ) -> None:
        self._write, self._read = write, read
        self.entries = {}
        self.refresh()

    def refresh(self) -> None:
        """Read all entries again."""
        for content in self._read():
            self.entries |= _entries(content)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry as an object of its own."""
        key = str(entry["item"])
        name = sha256(key.encode(errors="surrogateescape")).hexdigest()
        self._write(f"journal/{name}.json", _line(entry))
        self.entries[key] = {**entry}


def _line(entry: Mapping[str, Any]) -> bytes:
    return (to_json({**entry}).replace("\n", " ") + "\n").encode()


def _entries(content: bytes) -> dict[str, dict[str, Any]]:
    """Read the lines of a journal; the item of a damaged one is done once more."""
    found = {}
    for line in content.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            found[str(entry["item"])] = dict(entry)
    return found


@contextmanager
def open_journal(path: Path) -> Iterator[FileJournal]:
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
        yield FileJournal(path, file)
