"""What was found to be the fastest way to run a model on this machine, kept for the next load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.artifacts import ModelFolder
from fastseg.environment import processor, thread_count, usable_cores, versions
from fastseg.errors import OutputError
from fastseg.storage.cache import CacheFolder, user_cache_folder

SCHEMA = 1
"""Version of what is kept, and of how it is measured. A verdict of another one is not found."""

NAME = "verdicts"
"""The folder inside the user's cache folder."""

_CACHE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to run a part of a model, beside the exact one."""

    runs: Mapping[str, str]
    """What ran each graph of the part, in words: ``{"encoder": "openvino:cpu bf16"}``."""

    speed: float
    """Times as fast as the fastest way before it, measured in turns."""

    masks: int = 0
    """Masks that the exact way keeps, which the IoUs are over; 0 where speed had decided."""

    masks_kept: int = 0
    """Masks that this way keeps."""

    mask_iou_mean: float | None = None
    mask_iou_min: float | None = None

    refused: str = ""
    """Why it was not taken; empty for what passed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fastest way that passed, graph by graph."""

    backends: Mapping[str, str]
    """The runtime of each graph, ``{"encoder": "openvino", ...}``."""

    precisions: Mapping[str, str]
    """What each graph was asked to run in, ``{"encoder": "bf16", ...}``."""

    trials: tuple[Trial, ...] = ()
    """All that was measured, in order."""

    measured: str = ""
    """Processor, versions and time, in one line."""

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)


def find(folder: ModelFolder, *, threads: int = 0) -> Verdict | None:
    """What was found for this model, processor, versions and number of threads; None if nothing.

    A verdict that cannot be read is none.
    """
    kept = _folder()
    # Versions are looked up in the files of the installation: not before there can be a verdict.
    if kept is None or not kept.folder.is_dir():
        return None
    return kept.get(_key(folder, threads), _read)


def keep(folder: ModelFolder, verdict: Verdict, *, threads: int = 0) -> str:
    """Keep a verdict for every process of this user.

    Returns:
        Why it could not be kept, for the user; empty if it was.
    """
    kept = _folder()
    if kept is None:
        return "this user has no home folder to keep it in. Set XDG_CACHE_HOME to a folder."
    text = json.dumps({"schema": SCHEMA, **verdict.as_dict()}, indent=1)
    try:
        kept.put(_key(folder, threads), lambda file: _write(file, text))
    except OutputError as error:
        return str(error)
    return ""


def forget(folder: ModelFolder, *, threads: int = 0) -> None:
    """Remove what was found for this model here, if anything was."""
    kept = _folder()
    if kept is not None:
        with suppress(OSError):
            (kept.folder / f"{_key(folder, threads)}.json").unlink(missing_ok=True)


def _folder() -> CacheFolder | None:
    user = user_cache_folder()
    return None if user is None else CacheFolder(user / NAME, _CACHE_BYTES, ".json")


def _key(folder: ModelFolder, threads: int) -> str:
    """A name for everything that speed and rounding depend on."""
    graphs = sorted(graph.content for graph in folder.manifest.graphs.values())
    parts = (SCHEMA, graphs, processor(), usable_cores(), thread_count(threads), versions())
    return sha256(repr(parts).encode()).hexdigest()


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _read(file: Path) -> Verdict:
    """What ``keep`` wrote; anything else raises, and the cache then takes it for damaged."""
    document = json.loads(file.read_text(encoding="utf-8"))
    if document.pop("schema") != SCHEMA:
        raise ValueError(f"{file} is of another version")
    trials = tuple(Trial(**trial) for trial in document.pop("trials"))
    found = Verdict(trials=trials, **document)
    words = (*found.backends.values(), *found.precisions.values())
    if not words or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{file} names no runtimes")
    return found
