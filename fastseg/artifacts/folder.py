"""The model folder: ``model.json``, and the graphs and weights that it lists by their hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastseg.artifacts.json_fields import REMEDY
from fastseg.artifacts.manifest import GraphFile, Manifest, StoredFile, from_json, to_json
from fastseg.contract import GraphSpec
from fastseg.environment.threads import Team
from fastseg.errors import BackendError, ModelFolderError, ModelNotFoundError, OutputError
from fastseg.storage import owned
from fastseg.storage.atomic import atomic_folder
from fastseg.storage.owned import OwnedFile, sha256
from fastseg.storage.paths import is_file, is_folder, user_path
from fastseg.storage.staging import is_taken, take_back

MANIFEST_FILE = "model.json"

MANIFEST_BYTES = 16 * 2**20
"""A longer ``model.json`` was not written by fastseg, and is not read into memory."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder that was read, with its path and manifest."""

    path: Path
    manifest: Manifest

    def file(self, stored: GraphFile | StoredFile) -> Path:
        """Return the path of one of its files."""
        return self.path / stored.file

    def graph_file(self, graph_name: str, precision: str = "auto") -> GraphFile:
        """Find the file that holds a graph in a precision.

        Args:
            graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
            precision: ``"auto"`` or a precision that a file can hold; ``"auto"`` prefers
                ``"fp32"``.

        Raises:
            BackendError: The folder does not hold the graph in this precision.
            ModelFolderError: The folder does not hold the graph in any precision.
        """
        graphs = self.manifest.graphs.values()
        found = {stored.precision: stored for stored in graphs if stored.graph.name == graph_name}
        if not found:
            raise ModelFolderError(
                f"{self.path} has no graph {graph_name!r}. Export the model again."
            )
        if precision == "auto":
            return found.get("fp32") or next(iter(found.values()))
        if precision not in found:
            add = {"fp16": "half", "int8": "int8"}.get(precision)
            how = f"add it: fastseg export {add}" if add else "export the model again"
            raise BackendError(
                f"{self.path} holds {graph_name} in {', '.join(found)}, not in {precision}. "
                f'Use precision="auto", or {how}.'
            )
        return found[precision]


def is_model_folder(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder has a ``model.json``; its graphs are not read.

    Raises:
        ModelFolderError: The folder cannot be looked at.
    """
    return is_file(user_path(folder) / MANIFEST_FILE, ModelFolderError)


def read(folder: str | os.PathLike[str], verify: bool = True) -> ModelFolder:
    """Read a model folder and, unless told otherwise, hash every file that it lists.

    Args:
        folder: The folder that holds ``model.json``.
        verify: Compare the content of each file with its hash. Without it only the presence and
            the length of the files are checked.

    Raises:
        ModelNotFoundError: There is no such folder.
        ModelFolderError: A file is missing, truncated, altered or a link, or ``model.json`` is
            not ours or newer than this fastseg. The message names the file and the remedy.
    """
    path = user_path(folder)
    if not is_folder(path, ModelNotFoundError):
        raise ModelNotFoundError(f"there is no model folder {path}.")
    found = ModelFolder(path, _read_manifest(path))
    stored = found.manifest.files
    for file in stored:
        _verify_length(path, file)
    if verify:
        # Hashing releases the GIL: on two cores the decoder's files add no time to the encoder's.
        with Team(4) as team:
            for _ in team.map(lambda file: _verify_content(path, file), stored):
                pass
    return found


@contextmanager
def write(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Write a model folder: the block fills a temporary folder, ``model.json`` among it.

    The temporary folder is read back and verified, then its files are moved into ``folder``,
    ``model.json`` last. When the block raises, or is interrupted, nothing is left and an earlier
    model stays as it was.

    Args:
        folder: The folder to write.
        overwrite: Allow the model in that folder to be replaced. A folder that holds anything
            else is refused.

    Yields:
        An empty folder to write the graphs and, by ``write_manifest``, ``model.json`` into.

    Raises:
        OutputError: The name is taken, the disk is full or the place is not writable.
        ModelFolderError: What the block wrote is not a complete model folder.
    """
    target = user_path(folder)
    if is_folder(target, OutputError):
        take_back(target)
        if is_taken(target) and not is_model_folder(target):
            raise OutputError(f"{target} is not empty and is no model folder: choose another name.")
    known = _listed_files(target)
    with atomic_folder(folder, replace=overwrite, known=known, last=MANIFEST_FILE) as temporary:
        yield temporary
        read(temporary)


def remove(folder: str | os.PathLike[str]) -> None:
    """Remove a model folder in which every file is the model's.

    Raises:
        OutputError: It is a link, holds something else, or cannot be removed.
    """
    path = user_path(folder)
    take_back(path)
    owned.remove(path, _listed_files(path))


def _listed_files(folder: Path) -> tuple[OwnedFile, ...]:
    """List the files that ``model.json`` names by their hashes, and itself; none if it is damaged.

    An earlier version wrote model folders without a record.
    """
    try:
        manifest = _read_manifest(folder)
        own = OwnedFile(MANIFEST_FILE, sha256(folder / MANIFEST_FILE))
    except (ModelFolderError, OSError):
        return ()
    return (own, *(OwnedFile(stored.file, stored.sha256) for stored in manifest.files))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``model.json`` into a folder whose graphs are already there."""
    (folder / MANIFEST_FILE).write_text(to_json(manifest), encoding="utf-8")


def stored_file(path: Path) -> StoredFile:
    """Describe a file of a folder by its name, hash and length."""
    return StoredFile(file=path.name, sha256=sha256(path), bytes=path.stat().st_size)


def graph_file(
    graph: GraphSpec, path: Path, *, precision: str = "fp32", data: tuple[Path, ...] = ()
) -> GraphFile:
    """Describe a graph that was just written to ``path``, and its outside weights to ``data``."""
    own = stored_file(path)
    return GraphFile(
        graph=graph,
        file=own.file,
        sha256=own.sha256,
        precision=precision,
        bytes=own.bytes,
        data=tuple(stored_file(outside) for outside in data),
    )


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST_FILE
    if not is_file(file, ModelFolderError):
        raise ModelFolderError(f"{path} has no {MANIFEST_FILE}, so it is not a model folder.")
    try:
        if file.stat().st_size > MANIFEST_BYTES:
            raise ModelFolderError(f"{file} is larger than any model.json that fastseg writes.")
        return from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{file} cannot be read: {error}. {REMEDY}") from error
    except ModelFolderError as error:
        raise ModelFolderError(f"{path}: {error}") from error


def _verify_length(folder: Path, stored: StoredFile) -> None:
    path = folder / stored.file
    if not is_file(path, ModelFolderError):
        raise ModelFolderError(f"{path} is missing. {REMEDY}")
    if path.is_symlink():
        raise ModelFolderError(f"{path} is a link. A model folder holds its files itself: copy it.")
    if (length := path.stat().st_size) != stored.bytes:
        raise ModelFolderError(
            f"{path} has {length} bytes, not {stored.bytes}: it is truncated or altered. {REMEDY}"
        )


def _verify_content(folder: Path, stored: StoredFile) -> None:
    path = folder / stored.file
    try:
        found = sha256(path)
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error}. {REMEDY}") from error
    if found != stored.sha256:
        raise ModelFolderError(
            f"{path} was altered: its sha256 is {found}, not {stored.sha256}. {REMEDY}"
        )
