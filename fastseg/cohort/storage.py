"""Places of images and results: folders of this machine, and addresses that fsspec opens."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastseg.cohort.addresses import address_faults, is_address, open_address
from fastseg.cohort.journal import Journal, ObjectJournal, open_journal
from fastseg.cohort.manifest import Item
from fastseg.errors import ImageError, OutputError
from fastseg.storage.atomic import atomic_file
from fastseg.storage.paths import file_length, real_path, user_path

UNFINISHED = ".fastseg-"
"""First letters of the names of files that are being written."""


class Store(ABC):
    """The place of a cohort's results: files by names with ``/``, each whole or absent."""

    place: str
    """The place as the caller named it."""

    @abstractmethod
    def names(self) -> list[str]:
        """List files and folders at the top."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file, which is whole and lasting when this returns.

        Raises:
            OutputError: The disk is full, or the place cannot be written.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def remove_unfinished(self) -> None:
        """Remove the files that a killed process was writing."""

    @abstractmethod
    def journal(self, ending: str) -> AbstractContextManager[Journal]:
        """Open the journal of a part.

        Raises:
            OutputError: Another process writes it, or it cannot be opened.
        """

    def path(self, name: str) -> Path | None:  # noqa: ARG002 - for stores without paths
        """Return the path of a file, if it is one of this machine."""
        return None

    def holds(self, name: str, digest: object) -> bool:
        """Tell if a file is there with this hash."""
        content = self.read(name)
        return content is not None and sha256(content).hexdigest() == digest


class LocalStore(Store):
    """A folder of this machine."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.place = str(folder)
        self._folder = real_path(folder)

    def names(self) -> list[str]:
        """List files and folders at the top."""
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OutputError(f"cannot write {self.place}: {error.strerror or error}.") from error

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        path = self._folder / name
        return None if file_length(path) is None else path.read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file beside its place, and rename it once the disk has it."""
        with atomic_file(self._folder / name) as temporary, temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self._folder / name).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove the files that a killed process was writing, at the top and a folder below."""
        for pattern in (f"{UNFINISHED}*", f"*/{UNFINISHED}*"):
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)

    def journal(self, ending: str) -> AbstractContextManager[Journal]:
        """Open the journal of a part, and lock it."""
        return open_journal(self._folder / f"journal{ending}.jsonl")

    def path(self, name: str) -> Path | None:
        """Return the path of a file."""
        return self._folder / name


class AddressStore(Store):
    """A folder at an address: an object store, whose writes are whole by themselves."""

    def __init__(self, address: str) -> None:
        self.place = address.rstrip("/")
        self._files, self._root = open_address(self.place, OutputError)

    def names(self) -> list[str]:
        """List files and folders at the top."""
        with address_faults(self.place, OutputError):
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                return []
            listed = self._files.ls(self._root, detail=False)
        return sorted(path.rstrip("/").rpartition("/")[2] for path in listed)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        with address_faults(self.place, OutputError):
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an object."""
        target = f"{self._root}/{name}"
        with address_faults(self.place, OutputError):
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(target, content)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with address_faults(self.place, OutputError):
            if self._files.exists(f"{self._root}/{name}"):
                self._files.rm_file(f"{self._root}/{name}")

    def remove_unfinished(self) -> None:
        """Do nothing: an object appears once it is whole."""

    def journal(self, ending: str) -> AbstractContextManager[Journal]:  # noqa: ARG002 - as LocalStore
        """Open the journal, an object an item, which the parts share."""
        return nullcontext(ObjectJournal(self.write, self._entries))

    def _entries(self) -> Iterator[bytes]:
        with address_faults(self.place, OutputError):
            self._files.invalidate_cache()
            names = self._files.glob(f"{self._root}/journal/*.json")
            yield from self._files.cat(names).values() if names else ()


def open_store(out: str | os.PathLike[str]) -> Store:
    """Return the place of results.

    Raises:
        BackendUnavailableError: It is an address, and fsspec or the package for it is absent.
        OutputError: There is no such kind of address, or no such path.
    """
    if isinstance(out, str) and is_address(out):
        return AddressStore(out)
    return LocalStore(user_path(out))


@contextmanager
def local_file(item: Item) -> Iterator[Path]:
    """Give the file of an item a path of this machine while the block runs.

    Raises:
        ImageError: An address cannot be read.
        BackendUnavailableError: fsspec, or the package for an address, is absent.
    """
    if not item.is_remote:
        yield item.path
        return
    address = item.address
    files, path = open_address(address, ImageError)
    with TemporaryDirectory(prefix="fastseg-") as folder:
        # The name stays, since a file of echo states its view and patient by it.
        place = Path(folder, path.rstrip("/").rpartition("/")[2])
        with address_faults(address, ImageError):
            files.get_file(path, str(place))
        yield place


def remote_version(item: Item) -> dict[str, Any] | None:
    """Describe the object of an address, to see whether it was replaced; None if it is absent."""
    try:
        files, path = open_address(item.address, ImageError)
        files.invalidate_cache()
        found: Mapping[str, Any] = files.info(path)
    except Exception:  # a file system raises what its protocol leads it to; reading says why
        return None
    marks = {name: found.get(name) for name in ("ETag", "md5Hash", "mtime", "created")}
    return {"bytes": found.get("size"), **{n: str(v) for n, v in marks.items() if v is not None}}
