"""Engines on disk: each beside a JSON file that says what it is, and loaded only if it is that.

Reading an engine runs code of the runtime on its bytes, so none is read whose hash is not in the
JSON file beside it. That keeps out what is damaged, foreign or mixed up. It does not keep out
somebody who can write both files: folders with engines are as trusted as programs are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.backends.tensorrt.engine_key import (
    EngineKey,
    Gpu,
    from_document,
    gpu_from_document,
    to_document,
)
from fastseg.errors import EngineError
from fastseg.storage.cache import CacheFolder, user_cache_folder

ENGINES = "engines"
"""Folder of the engines inside a model folder."""

ENGINE, SIDECAR = ".engine", ".json"

SCHEMA = 1
"""Version of the JSON file."""

NOT_COMPARED = "not compared: no device"

_CACHE_BYTES = 16 * 2**30
_SIDECAR_BYTES = 2**20
_SMALL_FILES_BYTES = 64 * 2**20

_on_probation: ContextVar[bool] = ContextVar("on_probation", default=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of holding the masks of an engine's model against those in FP32."""

    state: str
    """``"passed"``, or why there was no comparison."""

    gpu: Gpu | None = None
    """Where it was made."""

    numbers: Mapping[str, Any] | None = None
    """Differences and mask IoUs."""

    @property
    def passed(self) -> bool:
        """Whether the engine was compared, and agreed."""
        return self.state == "passed"


@dataclass(frozen=True, slots=True)
class EngineCard:
    """What the JSON file beside an engine says."""

    key: EngineKey
    sha256: str
    """Of the engine's file."""

    bytes: int
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """An engine that was found: its card and where its bytes are."""

    path: Path
    card: EngineCard

    def read(self) -> bytes:
        """The engine, after its hash was compared with its card.

        Raises:
            EngineError: It is missing, truncated, altered, or a link.
        """
        remedy = "Build it again: fastseg build."
        if self.path.is_symlink() or not self.path.is_file():
            raise EngineError(f"{self.path} is missing or a link. {remedy}")
        if (length := self.path.stat().st_size) != self.card.bytes:
            raise EngineError(
                f"{self.path} has {length} bytes, not {self.card.bytes}: it is truncated or "
                f"altered. {remedy}"
            )
        content = self.path.read_bytes()
        # The very bytes that are hashed are those that are loaded.
        if sha256(content).hexdigest() != self.card.sha256:
            raise EngineError(
                f"{self.path} was altered, or fastseg did not write it: its hash is not the one in "
                f"{self.path.with_suffix(SIDECAR).name}. {remedy}"
            )
        return content


@contextmanager
def on_probation() -> Iterator[None]:
    """Let engines run in this block that were not compared yet, so that they can be."""
    token = _on_probation.set(True)
    try:
        yield
    finally:
        _on_probation.reset(token)


def write_engine(folder: Path, content: bytes, card: EngineCard) -> StoredEngine:
    """Write an engine and its card into a folder that somebody else makes appear whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card.key.graph}-{card.key.digest[:12]}{ENGINE}"
    path.write_bytes(content)
    path.with_suffix(SIDECAR).write_text(_to_json(card), encoding="utf-8")
    return StoredEngine(path, card)


def card_of(key: EngineKey, content: bytes, comparison: Comparison) -> EngineCard:
    """The card of an engine that was just built."""
    return EngineCard(key, sha256(content).hexdigest(), len(content), comparison)


def engines_in(folder: Path, graph: str) -> tuple[list[StoredEngine], list[str]]:
    """Find the engines of a graph in a folder.

    Returns:
        Those that there are, and in words which files of that name are no engines of fastseg.
    """
    found, refused = [], []
    for path in sorted(folder.glob(f"*{ENGINE}")) if folder.is_dir() else ():
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
    """Engines in the user's cache folder, and which of them were accepted on which GPU.

    Args:
        folder: The cache folder; that of the user if None. Without a home nothing is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        root = folder or user_cache_folder()
        self.folder = None if root is None else root / ENGINES
        place = self.folder or Path()
        self._engines = CacheFolder(place, _CACHE_BYTES, ENGINE)
        self._cards = CacheFolder(place, _SMALL_FILES_BYTES, SIDECAR)
        self._accepted = CacheFolder(place, _SMALL_FILES_BYTES, ".accepted")

    def find(self, key: EngineKey) -> StoredEngine | None:
        """The engine of exactly this key; one that is damaged is removed and not found."""
        if self.folder is None:
            return None
        card = self._cards.get(key.digest, _from_file)
        if card is None or card.key != key:
            return None
        engine = StoredEngine(self.folder / f"{key.digest}{ENGINE}", card)
        return engine if self._engines.get(key.digest, lambda _: engine.read()) else None

    def put(self, content: bytes, card: EngineCard) -> None:
        """Keep an engine under its key.

        Raises:
            OutputError: The folder cannot be written, or the disk is full.
        """
        if self.folder is not None:
            name = card.key.digest
            # A reader between the two finds a card that is not the engine's, and so no engine.
            self._engines.put(name, lambda path: _write(path, content))
            self._cards.put(name, lambda path: _write(path, _to_json(card).encode()))

    def all(self, graph: str) -> list[StoredEngine]:
        """Every engine of a graph."""
        return [] if self.folder is None else engines_in(self.folder, graph)[0]

    def accept(self, card: EngineCard, comparison: Comparison) -> None:
        """Remember that an engine, wherever it is, passed a comparison on a GPU."""
        if self.folder is not None and comparison.passed and comparison.gpu is not None:
            text = json.dumps(asdict(comparison), allow_nan=False).encode()
            self._accepted.put(_acceptance(card, comparison.gpu), lambda path: _write(path, text))

    def accepts(self, card: EngineCard, gpu: Gpu) -> bool:
        """Whether an engine may run on a GPU: FP32 always, anything less after a comparison."""
        if card.key.precision == "fp32" or _on_probation.get():
            return True
        if card.comparison.passed and card.comparison.gpu == gpu:
            return True
        if self.folder is None:
            return False
        found = self._accepted.get(_acceptance(card, gpu), _comparison_from_file)
        return found is not None and found.passed and found.gpu == gpu


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
    if not path.is_file():
        raise EngineError(f"{refusal}: {path.name} is not beside it. Build it: fastseg build.")
    try:
        if path.stat().st_size > _SIDECAR_BYTES:
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
