"""The local engine of cohorts: a few threads, one model, results that are whole or not there."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.cohort.journal import Journal, open_journal
from fastseg.cohort.manifest import Item, read_items
from fastseg.cohort.report import Counts, report
from fastseg.cohort.tasks import Task, make_task
from fastseg.environment.threads import Task as Call
from fastseg.environment.threads import Team
from fastseg.errors import CohortError, FastsegError, OutputError
from fastseg.inputs.numbers import shown, whole_number, yes_or_no
from fastseg.results import to_json
from fastseg.sam.model import Sam
from fastseg.storage.atomic import atomic_file
from fastseg.storage.paths import file_length, real_path

COHORT_FILE = "cohort.json"
ITEMS = "items"
FORMAT = 1

_UNFINISHED = ".fastseg-"
"""First letters of the names of files that are being written."""

WORKERS = 2
"""Items in work at once: while one is decoded, another is read and encoded."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one item."""

    item: Item
    status: str
    """``"done"``, ``"kept"`` for a result of an earlier run, or ``"failed"``."""

    file: Path | None = None
    """The file of its results."""

    masks: int = 0
    seconds: float = 0.0
    """From reading the image to the written result, in this run."""

    error: Mapping[str, str] | None = None
    """``type`` and ``message``, if it failed."""


@dataclass(frozen=True, slots=True)
class _Made:
    """The work of a thread on an item, not written yet."""

    item: Item
    content: bytes
    masks: int
    seconds: float
    error: FastsegError | None


def run(
    sources: str | os.PathLike[str] | Item | Iterable[str | os.PathLike[str] | Item],
    model: Sam,
    *,
    out: str | os.PathLike[str],
    task: str = "segment",
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    num_parts: int = 1,
    part_id: int = 0,
    fail_fast: bool = False,
) -> Iterator[Outcome]:
    """Segment a cohort, an item at a time, in bounded memory.

    Each result is one file, written whole, and then one line of the journal, which is on the disk
    before the item is yielded. Whatever ends the process, the next call with ``resume=True`` goes
    on: it keeps the results whose hashes are those of the journal, and makes the others.

    Args:
        sources: Manifests, folders, globs, images or ``Item`` objects; see ``read_items``.
        model: A model that takes prompts.
        out: Folder for the results.
        task: ``"segment"`` or ``"everything"``.
        settings: Of the task; see ``tasks.make_task``.
        resume: Go on with the cohort in ``out``, if there is one, and try failed items again.
        num_parts: Parts that the cohort is shared out to. Each may run in a process of its own.
        part_id: The part to do, from 0.
        fail_fast: End after the first item that fails.

    Yields:
        The outcome of each item, in their order.

    Raises:
        CohortError: The sources or the settings cannot be used, or ``out`` holds another cohort.
        ImageError: A folder has no image in it.
        PromptError: A setting cannot be used.
        OutputError: ``out`` cannot be written, is taken, or another process is working on it.
    """
    doing = make_task(task, model, settings)
    items = read_items(sources)
    parts = whole_number(num_parts, "num_parts", CohortError, least=1)
    part = whole_number(part_id, "part_id", CohortError, least=0)
    if part >= parts:
        raise CohortError(f"part_id must be below num_parts, {parts}, and is {part}.")
    going_on = yes_or_no(resume, "resume", CohortError)
    stops = yes_or_no(fail_fast, "fail_fast", CohortError)
    ending = "" if parts == 1 else f"-{part}-of-{parts}"
    folder = _begun(out, doing, ending, resume=going_on)
    return _run(items[part::parts], doing, folder, ending, stops)


def _begun(out: str | os.PathLike[str], task: Task, ending: str, *, resume: bool) -> Path:
    """Make the folder of the cohort, or check that it is of this one."""
    folder, about = real_path(out), {"format": FORMAT, **task.description()}
    file = folder / COHORT_FILE
    try:
        if file.is_file():
            # Another part of the same cohort may have begun.
            if not resume and (not ending or (folder / f"journal{ending}.jsonl").exists()):
                raise OutputError(
                    f"{out} holds a cohort. Go on with it by --resume (resume=True), or choose "
                    "another folder."
                )
            _require_same(file, about)
            return folder
        if folder.is_dir() and not all(map(_is_ours, folder.iterdir())):
            raise OutputError(f"{out} is not empty and holds no cohort. Choose another folder.")
        (folder / ITEMS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {out}: {error.strerror or error}.") from error
    with atomic_file(file) as temporary:
        temporary.write_text(to_json(about, indent=2) + "\n", encoding="utf-8")
    return folder


def _is_ours(path: Path) -> bool:
    """Tell if a file is of a cohort that has just begun, or of one that was killed then."""
    return path.name in (COHORT_FILE, ITEMS) or path.name.startswith(_UNFINISHED)


def _remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed process was writing."""
    for place in (folder, folder / ITEMS):
        for path in place.glob(f"{_UNFINISHED}*"):
            path.unlink(missing_ok=True)


def _require_same(file: Path, about: Mapping[str, Any]) -> None:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        differing = [name for name in about if before[name] != json.loads(to_json(about[name]))]
    except (ValueError, KeyError, TypeError) as error:
        raise CohortError(f"{file} is damaged. Choose another folder.") from error
    if differing:
        name = differing[0]
        raise CohortError(
            f"{file.parent} holds a cohort with another {name}: {shown(before[name])}, not "
            f"{shown(about[name])}. Results of both would be mixed: choose another folder."
        )


def _run(
    items: list[Item], task: Task, folder: Path, ending: str, fail_fast: bool
) -> Iterator[Outcome]:
    with open_journal(folder / f"journal{ending}.jsonl") as journal:
        if not ending:  # other parts may be writing
            _remove_unfinished(folder)
        counts = Counts(len(items))
        outcomes = _outcomes(items, task, folder, journal)
        try:
            for outcome in outcomes:
                counts.add(outcome.item.key, outcome.status, outcome.seconds, outcome.error)
                yield outcome
                if fail_fast and outcome.status == "failed":
                    break
        finally:
            outcomes.close()
            content = report(task.description(), task.model.provenance(), counts)
            with atomic_file(folder / f"report{ending}.json") as temporary:
                temporary.write_text(to_json(content, indent=2) + "\n", encoding="utf-8")


def _outcomes(
    items: list[Item], task: Task, folder: Path, journal: Journal
) -> Generator[Outcome, None, None]:
    """Do the items in their order, ``WORKERS`` at once and as many again ahead of their turn."""
    waiting: deque[Outcome | Call[_Made]] = deque()
    with Team(WORKERS) as team:
        for item in items:
            kept = _kept(item, folder, journal)
            waiting.append(kept or team.submit(_make, item, task))
            if len(waiting) > 2 * WORKERS:
                yield _finished(waiting.popleft(), folder, journal)
        while waiting:
            yield _finished(waiting.popleft(), folder, journal)


def _kept(item: Item, folder: Path, journal: Journal) -> Outcome | None:
    """Return the outcome of an item whose result is there as the journal says."""
    entry = journal.entries.get(item.key)
    if entry is None or entry.get("status") != "done" or entry.get("asked") != item.asked:
        return None
    file = folder / ITEMS / item.file_name
    if entry.get("input") != _input(item) or file_length(file) is None:
        return None
    if sha256(file.read_bytes()).hexdigest() != entry.get("sha256"):
        return None
    return Outcome(item, "kept", file, int(entry.get("masks", 0)))


def _input(item: Item) -> dict[str, int] | None:
    """Describe the file of an item, to see whether it was replaced; None for a folder."""
    try:
        found = item.path.stat()
    except (OSError, ValueError):
        return None
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}


def _make(item: Item, task: Task) -> _Made:
    begin = time.perf_counter()
    try:
        masks, content = task.do(item)
    except FastsegError as error:
        return _Made(item, b"", 0, time.perf_counter() - begin, error)
    return _Made(item, content, len(masks), time.perf_counter() - begin, None)


def _remove_stale(folder: Path, entry: Mapping[str, Any]) -> None:
    """Remove the result of an earlier run, which asked something else, of an item that failed."""
    file = folder / str(entry.get("file", ""))
    if entry.get("status") != "done" or not file.is_file():
        return
    if sha256(file.read_bytes()).hexdigest() == entry.get("sha256"):
        file.unlink()


def _finished(work: Outcome | Call[_Made], folder: Path, journal: Journal) -> Outcome:
    """Write what a worker made, and then the journal."""
    if isinstance(work, Outcome):
        return work
    made = work.result()
    item = made.item
    entry: dict[str, Any] = {"item": item.key, "asked": item.asked, "input": _input(item)}
    seconds = {"seconds": round(made.seconds, 6)}
    if made.error is not None:
        _remove_stale(folder, journal.entries.get(item.key, {}))
        error = {"type": type(made.error).__name__, "message": str(made.error)}
        journal.add({**entry, "status": "failed", "error": error, **seconds})
        return Outcome(item, "failed", None, 0, made.seconds, error)
    file = folder / ITEMS / item.file_name
    with atomic_file(file) as temporary, temporary.open("wb") as stream:
        stream.write(made.content)
        stream.flush()
        os.fsync(stream.fileno())
    digest = sha256(made.content).hexdigest()
    done = {"status": "done", "sha256": digest, "masks": made.masks, "file": f"{ITEMS}/{file.name}"}
    journal.add({**entry, **done, **seconds})
    return Outcome(item, "done", file, made.masks, made.seconds)
