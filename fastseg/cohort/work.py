"""The work on one item, in any thread, process or machine."""

from __future__ import annotations

import io
import os
import pickle
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks import Product, Task
from fastseg.errors import CohortError, FastsegError
from fastseg.inference.loaded_model import LoadedModel

DEATHS = 2
"""Workers that an item may end before it counts as failed: one may have been killed for another
reason."""


@dataclass(frozen=True, slots=True)
class Made:
    """The work on an item, not written yet."""

    item: Item
    product: Product | None
    """Its results; None if it failed."""

    seconds: float
    error: Mapping[str, str] | None = None
    """``type`` and ``message``, if it failed."""


class Workers(Protocol):
    """An engine: whatever does the work on items."""

    def map(self, items: Iterable[Item]) -> Iterator[Made]:
        """Do items and yield them as they are finished, with a few in work at once.

        The iterator is closed when no more is wanted, and ends all work.
        """
        ...


def make(task: Task, item: Item) -> Made:
    """Do an item; one that cannot be used is an error of its own."""
    begin = time.perf_counter()
    try:
        product = task.make(item)
    except FastsegError as error:
        return Made(item, None, time.perf_counter() - begin, error_of(error))
    return Made(item, product, time.perf_counter() - begin)


def make_isolated(task: Task, item: Item) -> Made:
    """Do an item in a worker, where nothing that it raises ends the worker."""
    begin = time.perf_counter()
    try:
        return make(task, item)
    except Exception as error:  # named and reported, whatever it is
        return Made(item, None, time.perf_counter() - begin, error_of(error))


def error_of(error: BaseException) -> dict[str, str]:
    """Return type and message of an error, ready for JSON."""
    return {"type": type(error).__name__, "message": str(error)}


def crashed(item: Item, how: str) -> Made:
    """Return the failure of an item that ended its workers."""
    message = (
        f"{item.key}: the worker ended {how}, {DEATHS} times. The file makes a decoder crash, or "
        "needs more memory than there is. Take it out, or give workers more memory."
    )
    return Made(item, None, 0.0, {"type": "WorkerCrash", "message": message})


def packed(task: Task, threads: int) -> bytes:
    """Pickle a task for a worker, whose models use ``threads`` unless they state a number."""
    file = io.BytesIO()
    _Packer(file, threads).dump(task)
    return file.getvalue()


def unpacked(content: bytes, runs: Mapping[str, Any]) -> Task:
    """Make the task again, with its models.

    Args:
        content: From ``packed``.
        runs: What each graph of each model must run on.

    Raises:
        CohortError: A model runs on something else here, so its results could differ.
        FastsegError: A model cannot be loaded here.
    """
    task: Task = pickle.loads(content)  # noqa: S301 - from our own process
    if task.runs() != runs:
        raise CohortError(
            f"this worker would run {task.runs()}, and the cohort runs {dict(runs)}, so results of "
            "both would be mixed. Name device, backend and precision, and give all workers "
            "the same hardware and packages."
        )
    return task


def import_path() -> str:
    """Return ``PYTHONPATH`` for workers, so that they import what this process does."""
    return os.pathsep.join(place or str(Path.cwd()) for place in sys.path)


class _Packer(pickle.Pickler):
    """A pickler that tells models how many threads a worker has."""

    def __init__(self, file: io.BytesIO, threads: int) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._threads = threads

    def reducer_override(self, value: Any) -> Any:
        """Reduce models; leave everything else to pickle."""
        if not isinstance(value, LoadedModel):
            return NotImplemented
        load, (kind, folder, choice, limit) = value.__reduce__()
        return load, (kind, folder, replace(choice, threads=choice.threads or self._threads), limit)
