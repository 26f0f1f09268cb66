"""Tuned plans: the fastest configuration of a model on this machine, kept for the next load."""

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
from fastseg.storage.paths import is_folder

SCHEMA = 1
"""Version of the file and of how it is measured. Files of another version are not found."""

NAME = "tuned-plans"
"""The folder inside the user's cache folder."""

_CACHE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration of a part of a model that was timed against the best one before it."""

    runs: Mapping[str, str]
    """Runtime, device and precision of each graph: ``{"encoder": "openvino:cpu bf16"}``."""

    speed: float
    """Speed relative to the best configuration before it, measured in turns."""

    masks: int = 0
    """Masks that FP32 keeps, which the IoUs are over; 0 for candidates that are too slow."""

    masks_kept: int = 0
    """Masks that this candidate keeps."""

    mask_iou_mean: float | None = None
    mask_iou_min: float | None = None

    refused: str = ""
    """The reason why it was refused; empty if it passed."""


@dataclass(frozen=True, slots=True)
class TunedPlan:
    """The fastest configuration that passed, graph by graph."""

    backends: Mapping[str, str]
    """The runtime of each graph, ``{"encoder": "openvino", ...}``."""

    precisions: Mapping[str, str]
    """The precision to ask for each graph, ``{"encoder": "bf16", ...}``."""

    candidates: tuple[Candidate, ...] = ()
    """Every configuration that was measured, in order."""

    measured: str = ""
    """Processor, versions and time, in one line."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON; the candidates are its ``trials``."""
        return {
            "backends": dict(self.backends),
            "precisions": dict(self.precisions),
            "trials": [asdict(candidate) for candidate in self.candidates],
            "measured": self.measured,
        }


def find(folder: ModelFolder, *, threads: int = 0) -> TunedPlan | None:
    """Return the plan for this model, processor, versions and number of threads, None without one.

    A plan that cannot be read counts as absent.
    """
    kept = _folder()
    # Versions are looked up in the files of the installation: not before there can be a plan.
    if kept is None or not is_folder(kept.folder):
        return None
    return kept.get(_key(folder, threads), _read)


def keep(folder: ModelFolder, plan: TunedPlan, *, threads: int = 0) -> str:
    """Keep a plan for every process of this user.

    Returns:
        The reason why it could not be kept, for the user; empty if it was.
    """
    kept = _folder()
    if kept is None:
        return "this user has no home folder to keep it in. Set XDG_CACHE_HOME to a folder."
    text = json.dumps({"schema": SCHEMA, **plan.as_dict()}, indent=1)
    try:
        kept.put(_key(folder, threads), lambda file: _write(file, text))
    except OutputError as error:
        return str(error)
    return ""


def forget(folder: ModelFolder, *, threads: int = 0) -> None:
    """Remove the plan of this model, if there is one."""
    kept = _folder()
    if kept is not None:
        with suppress(OSError):
            (kept.folder / f"{_key(folder, threads)}.json").unlink(missing_ok=True)


def _folder() -> CacheFolder | None:
    user = user_cache_folder()
    return None if user is None else CacheFolder(user / NAME, _CACHE_BYTES, ".json")


def _key(folder: ModelFolder, threads: int) -> str:
    """Return a name for everything that speed and rounding depend on."""
    graphs = sorted(graph.content for graph in folder.manifest.graphs.values())
    parts = (SCHEMA, graphs, processor(), usable_cores(), thread_count(threads), versions())
    return sha256(repr(parts).encode()).hexdigest()


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _read(file: Path) -> TunedPlan:
    """Read what ``keep`` wrote; anything else raises, and the cache then takes it for damaged."""
    document = json.loads(file.read_text(encoding="utf-8"))
    if document.pop("schema") != SCHEMA:
        raise ValueError(f"{file} is of another version")
    candidates = tuple(Candidate(**one) for one in document.pop("trials"))
    found = TunedPlan(candidates=candidates, **document)
    words = (*found.backends.values(), *found.precisions.values())
    if not words or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{file} names no runtimes")
    return found
