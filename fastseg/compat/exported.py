"""Model folders of checkpoints, each exported once into the user's cache."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.environment import needs_extra
from fastseg.errors import CheckpointError, OutputError
from fastseg.inputs.numbers import shown
from fastseg.storage.cache import user_cache_folder
from fastseg.storage.paths import is_file, is_folder, user_path

FORMAT = 1
"""Version of the folders in the cache; a change of the export that changes graphs raises it."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no such file; a ``FileNotFoundError``, as in the reference."""


class WrongCheckpointError(CheckpointError, RuntimeError):
    """The weights are of another network; a ``RuntimeError``, as in the reference."""


def model_folder(checkpoint: object, kind: str, *, preprocess: str = "sam") -> Path:
    """Find or make the model folder of a checkpoint.

    Args:
        checkpoint: A checkpoint file, a model folder, or the name of an embedded model.
        kind: ``source.kind`` that a file must be of, such as ``"vit_b"``.
        preprocess: Preparation of its images, ``"sam"`` or ``"sam2"``.

    Raises:
        MissingCheckpointError: There is no such file.
        WrongCheckpointError: The file is of another network.
        CheckpointError: ``checkpoint`` is no path, or the file is damaged or holds code.
        BackendUnavailableError: The file was not exported yet, and the extra is not installed.
        OutputError: The cache cannot be written.
    """
    if not isinstance(checkpoint, str | os.PathLike):
        raise CheckpointError(
            f"a model needs weights, and checkpoint is {shown(checkpoint)}. Give a checkpoint file "
            "or a model folder: fastseg builds no networks with random weights."
        )
    path = user_path(checkpoint)
    named = {folder.name: folder for folder in registry.embedded_folders()}
    if str(checkpoint) in named:
        return named[str(checkpoint)]
    if is_folder(path, CheckpointError):
        return path
    if not is_file(path, CheckpointError):
        raise MissingCheckpointError(
            f"there is no file {checkpoint}. Give the path of a checkpoint or of a model folder."
        )
    return _require_kind(path, _exported(path, preprocess), kind)


def _require_kind(checkpoint: Path, folder: Path, kind: str) -> Path:
    found = artifacts.read(folder, verify=False).manifest.source.get("kind")
    if found != kind:
        raise WrongCheckpointError(
            f"{checkpoint} is SAM {found}, not {kind}. Use the constructor or the configuration of "
            f"{found}."
        )
    return folder


def _exported(checkpoint: Path, preprocess: str) -> Path:
    """Return the folder in the cache, which is exported if it is not there.

    The key is the content of the file, so a file that was moved is not exported again, and one that
    was replaced is. Of several processes one exports and the others wait for its lock; the system
    frees the lock of a process that is killed, and what it left unfinished is taken back.
    """
    cache = _cache()
    key = artifacts.sha256(checkpoint)[:32]
    folder = cache / f"{preprocess}-{FORMAT}-{key}"
    with _locked(cache / f".{preprocess}-{FORMAT}-{key}.lock"):
        if not artifacts.is_model_folder(folder):
            _export(checkpoint, folder, preprocess)
    return folder


def _export(checkpoint: Path, folder: Path, preprocess: str) -> None:
    named: dict[str, Any] = {"name": checkpoint.stem}
    with needs_extra("export", f"the export of {checkpoint}"):
        if preprocess == "sam":
            from fastseg.export.sam import export_sam as export
        else:
            from fastseg.export.promptable import export_checkpoint as export

            named["preprocess"] = preprocess
    export(checkpoint, folder, **named)


def _cache() -> Path:
    """Find or make the folder of exports.

    Raises:
        OutputError: The user has no home, or it cannot be written.
    """
    root = user_cache_folder()
    remedy = (
        "Set XDG_CACHE_HOME to a folder that can be written, or export the checkpoint by fastseg "
        "export sam and give that folder."
    )
    if root is None:
        raise OutputError(f"there is no home folder to keep exports in. {remedy}")
    folder = root / "exports"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}. {remedy}") from error
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of one export, after waiting for it."""
    try:
        file = path.open("wb")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Choose another XDG_CACHE_HOME."
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
