"""Runs of a cohort: results that are whole or not there, and a journal of what is done."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.cohort.journal import Journal
from fastseg.cohort.manifest import Item, Sources
from fastseg.cohort.place import ITEMS, begin, file_version
from fastseg.cohort.report import Counts, report
from fastseg.cohort.storage import Store, open_store, remote_version
from fastseg.cohort.tasks import Finished, Product, Task, make_task
from fastseg.cohort.tasks.base import RESULT
from fastseg.cohort.tasks.making import Model
from fastseg.cohort.work import Made, Workers
from fastseg.cohort.workers import open_workers
from fastseg.cohort.workers.ray import RaySettings
from fastseg.errors import CohortError
from fastseg.inputs.numbers import whole_number, yes_or_no
from fastseg.results import to_json


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one item."""

    item: Item
    status: str
    """``"done"``, ``"kept"`` for a result of an earlier run, or ``"failed"``."""

    file: Path | None = None
    """The file of its results; None if it failed, or the results are at an address."""

    masks: int = 0
    seconds: float = 0.0
    """From reading the image to its results, in the run that did it."""

    error: Mapping[str, str] | None = None
    """``type`` and ``message``, if it failed."""


class Run(Iterator[Outcome]):
    """A cohort being done: yields the outcome of each item, in their order.

    ``close`` ends it early; so does the end of the program, however it comes.
    """

    def __init__(
        self, task: Task, items: list[Item], outcomes: Generator[Outcome, None, None]
    ) -> None:
        self.task = task
        """The task with its models and settings."""
        self.items = items
        """The items of this part."""
        self._outcomes = outcomes

    def __next__(self) -> Outcome:
        """Wait for the next item."""
        return next(self._outcomes)

    def close(self) -> None:
        """End the run; what is done stays."""
        self._outcomes.close()


def run(
    sources: Sources,
    model: Model,
    *,
    out: str | os.PathLike[str],
    task: str = "segment",
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    num_parts: int = 1,
    part_id: int = 0,
    fail_fast: bool = False,
    engine: str = "local",
    workers: int | None = None,
    ray: RaySettings | None = None,
    embeddings: str | os.PathLike[str] | None = None,
) -> Run:
    """Do a task on a cohort, an item at a time, in bounded memory.

    The results of an item are files, each written whole, and then one line of the journal, which
    is on the disk before the item is yielded. Whatever ends the process, the next call with
    ``resume=True`` goes on: it keeps the results whose hashes are those of the journal, and makes
    the others.

    Args:
        sources: Manifests, folders, globs, images or ``Item`` objects, see ``read_items``; for
            ``"evaluate"`` one dataset.
        model: A model that takes prompts; for ``"echo"`` a network for frames, networks by view
            that are compared with each other, or None for the embedded networks of all views.
        out: Folder for the results, or an address that fsspec opens, ``"s3://bucket/out"``.
        task: ``"segment"``, ``"everything"``, ``"propagate"``, ``"echo"`` or ``"evaluate"``.
        settings: Of the task; see ``tasks.make_task``.
        resume: Go on with the cohort in ``out``, if there is one, and try failed items again.
        num_parts: Parts that the cohort is shared out to. Each may run in a process of its own.
        part_id: The part to do, from 0.
        fail_fast: End after the first item that fails.
        engine: ``"local"``, or ``"ray"`` for actors of Ray Data.
        workers: Processes on this machine, or actors of Ray, each with a model of its own. None is
            threads of this process that share ``model``, or an actor for each of Ray's processors.
        ray: Address of a Ray cluster, and what an actor takes of it.
        embeddings: Folder that keeps the embeddings of images for other runs.

    Returns:
        An iterator over the outcome of each item, in their order. Nothing is done before it is
        asked.

    Raises:
        BackendUnavailableError: Ray or fsspec is asked for and not installed.
        CohortError: The sources or the settings cannot be used, or ``out`` holds another cohort.
        ImageError: A folder has no image in it.
        PromptError: A setting cannot be used.
        OutputError: ``out`` cannot be written, is taken, or another process is working on it.
    """
    doing = make_task(task, model, settings, sources, embeddings=embeddings)
    items = doing.items(sources)
    parts = whole_number(num_parts, "num_parts", CohortError, least=1)
    part = whole_number(part_id, "part_id", CohortError, least=0)
    if part >= parts:
        raise CohortError(f"part_id must be below num_parts, {parts}, and is {part}.")
    going_on = yes_or_no(resume, "resume", CohortError)
    stops = yes_or_no(fail_fast, "fail_fast", CohortError)
    if workers is not None:
        workers = whole_number(workers, "workers", CohortError, least=1)
    working = open_workers(doing, engine, workers, ray)
    ending = "" if parts == 1 else f"-{part}-of-{parts}"
    store = open_store(out)
    begin(store, doing.description(), ending=ending, resume=going_on)
    writing = _Writing(doing, store, items, {"engine": engine, "workers": workers})
    own = items[part::parts]
    return Run(doing, own, writing.outcomes(own, working, ending, fail_fast=stops))


@dataclass
class _Writing:
    """The results of a run on their way to their place."""

    task: Task
    store: Store
    everything: list[Item]
    """The items of all parts."""

    engine: Mapping[str, Any]
    """The engine and its workers, for the report."""

    _waiting: deque[Item | Outcome] = field(default_factory=deque)
    """Items that workers have, and kept ones between them, in their order."""

    _ends: dict[str, Outcome] = field(default_factory=dict)
    """Outcomes before their turn, by key: they are written as they come."""

    def outcomes(
        self, items: list[Item], workers: Workers, ending: str, *, fail_fast: bool
    ) -> Generator[Outcome, None, None]:
        """Do items and yield their outcomes, then write the report and what joins all items."""
        with self.store.journal(ending) as journal:
            if not ending:  # other parts may be writing
                self.store.remove_unfinished()
            counts = Counts(len(items))
            try:
                with closing(self._outcomes(items, workers, journal)) as outcomes:
                    for outcome in outcomes:
                        counts.add(outcome.item.key, outcome.status, outcome.seconds, outcome.error)
                        yield outcome
                        if fail_fast and outcome.status == "failed":
                            return
                self._join(journal)
            finally:
                about, ran_on = self.task.description(), self.task.provenance()
                content = report(about, ran_on, self.engine, counts)
                text = to_json(content, indent=2) + "\n"
                self.store.write(f"report{ending}.json", text.encode())

    def _outcomes(
        self, items: list[Item], workers: Workers, journal: Journal
    ) -> Generator[Outcome, None, None]:
        ahead = iter(items)
        for item in ahead:
            kept = self._kept(item, journal)
            if kept is None:
                break
            yield kept
        else:
            return  # nothing is left, and no worker is started
        with closing(workers.map(self._asked(item, ahead, journal))) as made:  # type: ignore[type-var]
            for one in made:
                self._ends[one.item.key] = self._finished(one, journal)
                yield from self._in_turn()
        yield from self._in_turn()

    def _asked(self, first: Item, ahead: Iterator[Item], journal: Journal) -> Iterator[Item]:
        """Yield the items that have to be done."""
        self._waiting.append(first)
        yield first
        for item in ahead:
            kept = self._kept(item, journal)
            self._waiting.append(kept or item)
            if kept is None:
                yield item

    def _in_turn(self) -> Iterator[Outcome]:
        """Yield the outcomes whose turn has come."""
        while self._waiting:
            first = self._waiting[0]
            outcome = first if isinstance(first, Outcome) else self._ends.pop(first.key, None)
            if outcome is None:
                return
            self._waiting.popleft()
            yield outcome

    def _kept(self, item: Item, journal: Journal) -> Outcome | None:
        """Return the outcome of an item whose results are there as the journal says."""
        entry = journal.entries.get(item.key)
        if entry is None or entry.get("status") != "done" or entry.get("asked") != item.asked:
            return None
        files = entry.get("files")
        if entry.get("input") != self._input(item) or not isinstance(files, dict) or not files:
            return None
        if not all(self.store.holds(name, digest) for name, digest in files.items()):
            return None
        masks, seconds = int(entry.get("masks", 0)), float(entry.get("seconds", 0))
        return Outcome(item, "kept", self.store.path(_result(item)), masks, seconds)

    def _input(self, item: Item) -> list[dict[str, Any] | None]:
        """Describe the files of an item, to see whether one was replaced."""
        if item.is_remote:
            return [remote_version(item)]
        return [file_version(path) for path in self.task.files(item)]

    def _finished(self, made: Made, journal: Journal) -> Outcome:
        """Write what a worker made, and then the journal."""
        item = made.item
        entry: dict[str, Any] = {
            "item": item.key,
            "asked": item.asked,
            "input": self._input(item),
            "seconds": round(made.seconds, 6),
        }
        before = journal.entries.get(item.key, {})
        if made.product is None:
            self._remove_stale(before, kept=())
            journal.add({**entry, "status": "failed", "error": made.error})
            return Outcome(item, "failed", None, 0, made.seconds, made.error)
        files = self._write(item, made.product)
        self._remove_stale(before, kept=files)
        masks, notes = made.product.masks, made.product.notes
        more = {"notes": notes} if notes else {}
        journal.add({**entry, "status": "done", "masks": masks, "files": files, **more})
        return Outcome(item, "done", self.store.path(_result(item)), masks, made.seconds)

    def _write(self, item: Item, product: Product) -> dict[str, str]:
        """Write the files of an item, and return their hashes by their names."""
        written = {}
        for suffix, content in product.files.items():
            name = f"{ITEMS}/{item.stem}{suffix}"
            self.store.write(name, content)
            written[name] = sha256(content).hexdigest()
        return written

    def _remove_stale(self, entry: Mapping[str, Any], kept: Any) -> None:
        """Remove results of an earlier run, which asked something else, that were not replaced."""
        files = entry.get("files")
        for name, digest in (files if isinstance(files, dict) else {}).items():
            if name not in kept and self.store.holds(name, digest):
                self.store.remove(name)

    def _join(self, journal: Journal) -> None:
        """Write what comes of all items, if each of them has an end in one of the journals."""
        journal.refresh()
        ends = [journal.entries.get(item.key) for item in self.everything]
        if all(entry is not None for entry in ends):
            pairs = zip(self.everything, ends, strict=True)
            self.task.join((self._end(item, entry or {}) for item, entry in pairs), self.store)

    def _end(self, item: Item, entry: Mapping[str, Any]) -> Finished:
        content = None if entry.get("status") != "done" else self.store.read(_result(item))
        return Finished(item, None if content is None else json.loads(content), entry)


def _result(item: Item) -> str:
    return f"{ITEMS}/{item.stem}{RESULT}"
