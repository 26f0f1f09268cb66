"""Engines on disk, each with a JSON file that describes it, and the search for one that fits.

Reading an engine runs code of the runtime on its bytes, so an engine is read only if its hash is in
the JSON file beside it. That excludes damaged and foreign files. It does not exclude an attacker
who can write both files: folders with engines must be trusted as programs are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.tensorrt import library
from fastseg.backends.tensorrt.engine_key import (
    EngineKey,
    Gpu,
    from_document,
    gpu_from_document,
    key_of,
    to_document,
)
from fastseg.backends.tensorrt.library import PORTABLE, Flavour
from fastseg.errors import EngineError
from fastseg.storage.cache import CacheFolder, user_cache_folder
from fastseg.storage.paths import file_length, is_folder

ENGINES = "engines"
"""Folder of the engines inside a model folder."""

ENGINE, SIDECAR = ".engine", ".json"

SCHEMA = 1
"""Version of the JSON file."""

NOT_COMPARED = "not compared: no device"

_CACHE_BYTES = 16 * 2**30
_SIDECAR_BYTES = 2**20
_SMALL_FILES_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing the masks of a model's engines with those in FP32."""

    state: str
    """``"passed"``, or the reason why there was no comparison."""

    gpu: Gpu | None = None
    """The GPU that the engines ran on."""

    numbers: Mapping[str, Any] | None = None
    """Differences and mask IoUs."""

    @property
    def passed(self) -> bool:
        """True if the engine was compared, and agreed."""
        return self.state == "passed"


@dataclass(frozen=True, slots=True)
class EngineCard:
    """The content of the JSON file beside an engine."""

    key: EngineKey
    sha256: str
    """Of the engine's file."""

    bytes: int
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """An engine that was found: its card and its file."""

    path: Path
    card: EngineCard

    def read(self) -> bytes:
        """Read the engine, and compare its hash with its card.

        Raises:
            EngineError: It is missing, truncated, altered, or a link.
        """
        remedy = "Build it again: fastseg build."
        length = file_length(self.path)
        if length is None or self.path.is_symlink():
            raise EngineError(f"{self.path} is missing or a link. {remedy}")
        if length != self.card.bytes:
            raise EngineError(
                f"{self.path} has {length} bytes, not {self.card.bytes}: it is truncated or "
                f"altered. {remedy}"
            )
        content = self.path.read_bytes()
        # The bytes that are hashed are the ones that are loaded, not read again.
        if sha256(content).hexdigest() != self.card.sha256:
            raise EngineError(
                f"{self.path} was altered, or fastseg did not write it: its hash is not the one in "
                f"{self.path.with_suffix(SIDECAR).name}. {remedy}"
            )
        return content


def write_engine(folder: Path, content: bytes, card: EngineCard) -> StoredEngine:
    """Write an engine and its card into a folder; the caller makes the folder appear whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card.key.graph}-{card.key.digest[:12]}{ENGINE}"
    path.write_bytes(content)
    path.with_suffix(SIDECAR).write_text(_to_json(card), encoding="utf-8")
    return StoredEngine(path, card)


def card_of(key: EngineKey, content: bytes, comparison: Comparison) -> EngineCard:
    """Describe an engine that was just built."""
    return EngineCard(key, sha256(content).hexdigest(), len(content), comparison)


def engines_in(folder: Path, graph: str) -> tuple[list[StoredEngine], list[str]]:
    """Find the engines of a graph in a folder.

    Returns:
        The engines, and for each file of that name that is no engine of fastseg the reason.
    """
    found, refused = [], []
    for path in sorted(folder.glob(f"*{ENGINE}")) if is_folder(folder) else ():
        try:
            card = _from_file(path.with_suffix(SIDECAR))
        except EngineError as error:
            if path.stem.partition("-")[0] == graph:
                refused.append(str(error))
            continue
        if card.key.graph == graph:
            found.append(StoredEngine(path, card))
    return found, refused


class EngineCache:
    """Engines in the user's cache folder, and the comparisons that they passed on each GPU.

    Args:
        folder: The cache folder; that of the user if None. Without a home nothing is cached.
    """

    def __init__(self, folder: Path | None = None) -> None:
        root = folder or user_cache_folder()
        self.folder = None if root is None else root / ENGINES
        path = self.folder or Path()
        self._engines = CacheFolder(path, _CACHE_BYTES, ENGINE)
        self._cards = CacheFolder(path, _SMALL_FILES_BYTES, SIDECAR)
        self._accepted = CacheFolder(path, _SMALL_FILES_BYTES, ".accepted")

    def find(self, key: EngineKey) -> StoredEngine | None:
        """Find the engine of exactly this key; a damaged one is removed and not found."""
        if self.folder is None:
            return None
        card = self._cards.get(key.digest, _from_file)
        if card is None or card.key != key:
            return None
        engine = StoredEngine(self.folder / f"{key.digest}{ENGINE}", card)
        return engine if self._engines.get(key.digest, lambda _: engine.read()) else None

    def put(self, content: bytes, card: EngineCard) -> None:
        """Store an engine under its key.

        Raises:
            OutputError: The folder cannot be written, or the disk is full.
        """
        if self.folder is not None:
            name = card.key.digest
            # A reader between the two finds a card of another engine, and so no engine.
            self._engines.put(name, lambda path: _write(path, content))
            self._cards.put(name, lambda path: _write(path, _to_json(card).encode()))

    def all(self, graph: str) -> list[StoredEngine]:
        """List the engines of a graph."""
        return [] if self.folder is None else engines_in(self.folder, graph)[0]

    def accept(self, card: EngineCard, comparison: Comparison) -> None:
        """Record that an engine, in any folder, passed a comparison on a GPU."""
        if self.folder is not None and comparison.passed and comparison.gpu is not None:
            text = json.dumps(asdict(comparison), allow_nan=False).encode()
            self._accepted.put(_acceptance(card, comparison.gpu), lambda path: _write(path, text))

    def accepts(self, card: EngineCard, gpu: Gpu) -> bool:
        """Tell whether an engine may run on a GPU: in FP32 always, else after a comparison."""
        if card.key.precision == "fp32":
            return True
        if card.comparison.passed and card.comparison.gpu == gpu:
            return True
        if self.folder is None:
            return False
        found = self._accepted.get(_acceptance(card, gpu), _comparison_from_file)
        return found is not None and found.passed and found.gpu == gpu


def find_engine(
    folder: ModelFolder,
    stored: GraphFile,
    flavour: Flavour,
    gpu: Gpu,
    cache: EngineCache | None = None,
    *,
    allow_uncompared: bool = False,
) -> StoredEngine:
    """Find the engine of a graph, in the model folder or in the cache.

    An engine fits if it was built from this very graph, in this precision, by this version of the
    runtime, for this GPU. Below FP32 it must also have passed a comparison on this GPU.

    Args:
        folder: The model folder.
        stored: Its graph.
        flavour: The runtime.
        gpu: The GPU of this machine.
        cache: The cache to search beside the folder; the user's cache if None.
        allow_uncompared: Whether an engine below FP32 is accepted without a comparison.

    Raises:
        EngineError: There is no such engine. The message gives the reason of each that is there.
    """
    searched = EngineCache() if cache is None else cache
    wanted = key_of(stored, flavour, library.version(flavour), targets=(), gpu=gpu)
    inside, reasons = engines_in(folder.path / ENGINES, stored.graph.name)
    # The cache holds engines of all models: those of other graphs are not reported.
    cached = [
        engine
        for engine in searched.all(stored.graph.name)
        if engine.card.key.graph_sha256 == wanted.graph_sha256
    ]
    fitting = []
    for engine in (*inside, *cached):
        different = engine.card.key.differences(wanted)
        if not different and not (allow_uncompared or searched.accepts(engine.card, gpu)):
            state = engine.card.comparison.state
            different = [f"its masks were never compared with FP32 on this GPU ({state})"]
        if different:
            reasons.append(f"{engine.path.name}: {'; '.join(different)}")
        else:
            fitting.append(engine)
    if not fitting:
        raise EngineError(_none_fits(folder, stored, flavour, gpu, reasons))
    # An engine that was built for this architecture is at least as fast as a portable one.
    return min(fitting, key=lambda engine: engine.card.key.targets == (PORTABLE,))


def _none_fits(
    folder: ModelFolder, stored: GraphFile, flavour: Flavour, gpu: Gpu, reasons: list[str]
) -> str:
    found = " ".join(f"{reason}." for reason in reasons) or "There is none at all."
    return (
        f"{folder.manifest.name} has no {flavour.name} engine of {stored.graph.name} in "
        f"{stored.precision} for {gpu}. {found} Build and compare it here: fastseg build "
        f"{folder.path} --backend {flavour.name} --precision {stored.precision}."
    )


def _acceptance(card: EngineCard, gpu: Gpu) -> str:
    return sha256(f"{card.sha256} {gpu}".encode()).hexdigest()


def _comparison_from_file(path: Path) -> Comparison:
    return _comparison(json.loads(path.read_text(encoding="utf-8")))


def _comparison(document: Mapping[str, Any]) -> Comparison:
    gpu = document["gpu"]
    return Comparison(
        str(document["state"]),
        None if gpu is None else gpu_from_document(gpu),
        document["numbers"],
    )


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _to_json(card: EngineCard) -> str:
    document = {
        "schema": SCHEMA,
        "key": to_document(card.key),
        "sha256": card.sha256,
        "bytes": card.bytes,
        "comparison": asdict(card.comparison),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _from_file(path: Path) -> EngineCard:
    engine = path.with_suffix(ENGINE)
    refusal = f"{engine} is no engine that fastseg wrote"
    length = file_length(path)
    if length is None:
        raise EngineError(f"{refusal}: {path.name} is not beside it. Build it: fastseg build.")
    try:
        if length > _SIDECAR_BYTES:
            raise ValueError("it is too long")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']}, not {SCHEMA}")
        return EngineCard(
            key=from_document(document["key"]),
            sha256=str(document["sha256"]),
            bytes=int(document["bytes"]),
            comparison=_comparison(document["comparison"]),
        )
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EngineError(
            f"{refusal}, or another version of it did: {path.name} cannot be read ({error}). "
            "Build it again: fastseg build."
        ) from error
