"""Base of the tasks of a cohort: what is done with an item, and what comes of all items."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fastseg.cohort.manifest import Item, Sources, read_items
from fastseg.cohort.storage import Store, local_file
from fastseg.inference.loaded_model import LoadedModel
from fastseg.sam.embedding_cache import EmbeddingCache

RESULT = ".json"
"""Suffix of the file that every item gets."""


@dataclass(frozen=True, slots=True)
class Product:
    """The results of an item: the same for the same item."""

    files: Mapping[str, bytes]
    """Content of each file by its suffix, ``RESULT`` first."""

    masks: int
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Values that differ from run to run, such as times; for the journal, ready for JSON."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An item with its end, as ``Task.join`` gets it."""

    item: Item
    document: Mapping[str, Any] | None
    """The content of its ``RESULT``; None if it failed."""

    entry: Mapping[str, Any]
    """Its line of the journal."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task with its settings and its model. It is pickled for workers."""

    name: ClassVar[str]
    settings: Mapping[str, Any]
    max_pixels: int | None
    """Largest height x width of an image; None for any."""

    def items(self, sources: Sources) -> list[Item]:
        """List the items; see ``read_items``."""
        return read_items(sources)

    @abstractmethod
    def models(self) -> Mapping[str, LoadedModel]:
        """Return the models by their part in the task; ``""`` for the only one."""

    @abstractmethod
    def _make(self, item: Item, path: Path) -> Product:
        """Do an item whose file is at ``path``."""

    def make(self, item: Item) -> Product:
        """Do an item.

        Raises:
            FastsegError: The file or its prompts cannot be used.
        """
        with local_file(item) as path:
            return self._make(item, path)

    def files(self, item: Item) -> Sequence[Path]:
        """Name the local files whose change makes the item another one."""
        return () if item.is_remote else (item.path,)

    def join(self, finished: Iterable[Finished], store: Store) -> None:  # noqa: B027
        """Write what comes of all items together; most tasks have nothing."""

    def description(self) -> dict[str, Any]:
        """Describe what the results depend on beside the items, ready for JSON."""
        about = {part: describe_model(model) for part, model in self.models().items()}
        models = about.get("", {"models": about})
        return {"task": self.name, "settings": {**self.settings}, **models}

    def provenance(self) -> dict[str, Any]:
        """Name the models, and what they run on."""
        found = {part: model.provenance() for part, model in self.models().items()}
        return found.get("", {"models": found})

    def runs(self) -> dict[str, dict[str, str]]:
        """Return what each model runs on; workers must agree in it."""
        return {part: dict(model.runs) for part, model in self.models().items()}


@dataclass(frozen=True, kw_only=True)
class PromptedTask(Task):
    """A task of one model that takes prompts."""

    model: Any
    """A ``PromptModel``; embeddings and propagation need a ``Sam``."""

    embeddings: Path | None = None
    """Folder of embeddings that outlive the run."""

    def models(self) -> Mapping[str, LoadedModel]:
        """Return the only model."""
        return {"": self.model}

    @cached_property
    def cache(self) -> EmbeddingCache | None:
        """The cache of embeddings, opened in the process that uses it."""
        return None if self.embeddings is None else EmbeddingCache(self.embeddings)


def describe_model(model: LoadedModel) -> dict[str, Any]:
    """Name a model with a hash of its graphs, and what it runs on."""
    graphs = model.manifest.graphs.items()
    content = "\n".join(f"{name} {stored.content}" for name, stored in sorted(graphs))
    return {
        "model": model.manifest.name,
        "model_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "runs": dict(model.runs),
    }
