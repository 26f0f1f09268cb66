"""Runs campaigns in their workers, keeps the cases that fail, and prints the table."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from tools.attack.campaign import Campaign, Counts, Failure, Outcome
from tools.attack.worker import Place, Worker

MOST_FAILURES = 20
"""Failures after which a campaign is given up."""

_SHOWN = 3


@dataclass(frozen=True)
class Conditions:
    """The conditions that campaigns are run under."""

    seed: int
    out: Path
    """Folder of the failing cases."""

    short: bool = False
    deadline: float = float("inf")
    """Monotonic time at which everything has to be over."""

    case: int | None = None
    """The only case to try."""


def run(campaign: Campaign, conditions: Conditions) -> Outcome:
    """Try every case of a campaign.

    Returns:
        The outcome. A campaign that tried nothing has failed, unless its outcome says what is
        missing for it.
    """
    started = time.monotonic()
    outcome = Outcome(campaign.name)
    count = campaign.short_cases if conditions.short else campaign.cases
    reason = campaign.missing() if count else campaign.left_out
    if reason:
        outcome.note, outcome.skipped = reason, True
        return outcome
    budget = campaign.short_budget if conditions.short else campaign.budget
    indices = range(count) if conditions.case is None else [conditions.case]
    try:
        _Run(campaign, conditions, outcome).through(iter(indices), budget)
    finally:
        outcome.seconds = time.monotonic() - started
    if not outcome.counts.tried and not outcome.failures:
        outcome.failures.append(Failure(-1, "nothing was tried: no time was left"))
    return outcome


class _Run:
    """The workers of one campaign and what they found."""

    def __init__(self, campaign: Campaign, conditions: Conditions, outcome: Outcome) -> None:
        self._campaign = campaign
        self._conditions = conditions
        self._outcome = outcome
        self._work = conditions.out / "work" / _file_name(campaign.name)
        self._started = 0
        self._end = 0.0
        self._begun: dict[Worker, float] = {}

    def through(self, indices: Iterator[int], budget: float) -> None:
        """Give the indices to workers until there is none, or the time is over."""
        wanted = 1 if self._conditions.case is not None else self._campaign.workers
        try:
            for _ in range(wanted):
                self._start()
            while self._begun:
                for worker, found in self._answers():
                    # The time begins when the first worker is ready.
                    self._end = self._end or time.monotonic() + budget
                    self._take(worker, found)
                    self._next(worker, found, indices)
        finally:
            for worker in self._begun:
                worker.end()
            shutil.rmtree(self._work, ignore_errors=True)

    def _start(self) -> Worker:
        place = Place(self._work / str(self._started), self._conditions.seed)
        self._started += 1
        worker = Worker(self._campaign, place)
        self._begun[worker] = time.monotonic()
        return worker

    def _answers(self) -> Iterator[tuple[Worker, Counts | Failure]]:
        """Wait for answers, and for the first worker that takes too long."""
        by_connection = {worker.connection: worker for worker in self._begun}
        late = min(map(self._late, self._begun))
        for ready in wait(list(by_connection), max(0.0, late - time.monotonic())):
            worker = by_connection[ready]  # type: ignore[index]
            yield worker, worker.answer()
        for worker in list(self._begun):
            if time.monotonic() > self._late(worker):
                yield worker, worker.hung()

    def _late(self, worker: Worker) -> float:
        """Return the time until which a worker may be busy: with a start not long after the end."""
        late = self._begun[worker] + worker.patience
        if worker.index >= 0:
            return late
        return min(late, self._conditions.deadline + self._campaign.case_seconds)

    def _take(self, worker: Worker, found: Counts | Failure) -> None:
        if isinstance(found, Counts):
            self._outcome.counts += found
            return
        self._outcome.failures.append(found)
        self._outcome.counts += Counts(1)
        self._keep(worker, found)

    def _next(self, worker: Worker, found: Counts | Failure, indices: Iterator[int]) -> None:
        """Give a worker that has answered its next case, or end it."""
        end = min(self._end, self._conditions.deadline)
        over = time.monotonic() > end or len(self._outcome.failures) >= MOST_FAILURES
        index = next(indices, None)
        if over and index is not None:
            self._outcome.note, index = "ended by time", None
        failed = isinstance(found, Failure)
        if index is None or failed:
            worker.end()
            del self._begun[worker]
        if index is None or (failed and worker.index < 0):
            return
        # After a failure in a new process: the next case is not to suffer from this one.
        ready = self._replaced(index) if failed else worker
        if ready is not None:
            ready.begin(index)
            self._begun[ready] = time.monotonic()

    def _replaced(self, index: int) -> Worker | None:
        """Start a worker in the place of one that has ended, and wait until it is ready."""
        worker = self._start()
        found = worker.answer() if worker.connection.poll(worker.patience) else worker.hung()
        if isinstance(found, Counts):
            return worker
        self._take(worker, Failure(index, found.reason, found.details))
        worker.end()
        self._begun.pop(worker, None)
        return None

    def _keep(self, worker: Worker, failure: Failure) -> None:
        folder = self._conditions.out / "failures" / f"{self._work.name}-{failure.index}"
        shutil.rmtree(folder, ignore_errors=True)
        if worker.place.case.is_dir():
            shutil.copytree(worker.place.case, folder, symlinks=True)
        folder.mkdir(parents=True, exist_ok=True)
        again = (
            f"tools/attack.sh --seed {self._conditions.seed} --only '{self._campaign.name}' "
            f"--case {failure.index}"
        )
        text = f"{failure.reason}\nagain: {again}\n\n{failure.details}\n"
        (folder / "failure.txt").write_text(text, errors="backslashreplace")


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name)


HEADER = ("campaign", "tried", "survived", "refused", "failures", "seconds")


def table(outcomes: Iterable[Outcome]) -> str:
    """Return the table of outcomes in Markdown; ``refused`` are survivors with a typed error."""
    lines = [f"| {' | '.join(HEADER)} |", "|---|---:|---:|---:|---:|---:|"]
    for one in outcomes:
        failed = len(one.failures)
        numbers = [one.counts.tried, one.counts.tried - failed, one.counts.refused, failed]
        if one.skipped:
            lines.append(f"| {one.name}: {one.note} | - | - | - | - | - |")
            continue
        name = f"{one.name} ({one.note})" if one.note else one.name
        shown = " | ".join(f"{max(number, 0):,}" for number in numbers)
        lines.append(f"| {name} | {shown} | {one.seconds:.0f} |")
    return "\n".join(lines)


def failures(outcome: Outcome) -> str:
    """Return the first failures of a campaign, one a line."""
    lines = [f"  case {one.index}: {one.reason}" for one in outcome.failures[:_SHOWN]]
    if len(outcome.failures) > _SHOWN:
        lines.append(f"  and {len(outcome.failures) - _SHOWN} more")
    return "\n".join(lines)
