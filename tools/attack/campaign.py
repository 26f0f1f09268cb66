"""A campaign: many cases of one kind, each of which fastseg has to survive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from fastseg.errors import FastsegError


class BrokenPromiseError(AssertionError):
    """Something that fastseg promises does not hold."""


@dataclass(frozen=True)
class Case:
    """One case; it is the same for the same campaign, seed and index."""

    index: int
    random: Random

    folder: Path
    """An empty folder. The files in it are kept if the case fails."""


@dataclass(frozen=True)
class Counts:
    """Number of tries in a case, and how many of them a typed error answered."""

    tried: int = 1
    refused: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add up two counts."""
        return Counts(self.tried + other.tried, self.refused + other.refused)


@dataclass(frozen=True)
class Failure:
    """A case that was not survived."""

    index: int
    reason: str
    """One line."""

    details: str = ""
    """Traceback, or the output of the process."""


@dataclass
class Outcome:
    """The result of a campaign."""

    name: str
    counts: Counts = Counts(0)
    failures: list[Failure] = field(default_factory=list)
    note: str = ""
    """Reason that the campaign was not run, or not to its end."""

    seconds: float = 0.0
    skipped: bool = False


def packages_missing(*names: str) -> str:
    """Name those packages that are not installed, ``"needs onnx and torch"``; empty if none."""
    absent = [name for name in names if find_spec(name) is None]
    return f"needs {' and '.join(absent)}" if absent else ""


class Campaign:
    """Cases of one kind. Each runs in a worker process, and must leave it alive.

    A case is survived if ``attack`` returns. It fails by any exception, also by a typed one that
    ``attack`` lets through, by the death of the worker, by ``case_seconds`` without an end, and by
    more memory than ``memory_bound``.
    """

    name = ""

    cases, short_cases = 0, 0
    """Number of cases, and that of the short form; 0 leaves the campaign out of it."""

    left_out = ""
    """Reason why the short form has no case."""

    start_seconds = 120.0
    """Patience with ``prepare``."""

    case_seconds = 30.0

    budget, short_budget = 60.0, 12.0
    """Seconds after ``prepare`` from which no further case begins."""

    memory_bound: int | None = 2**30
    """Bytes by which the resident memory of the worker may grow during a case."""

    workers = 2
    """Worker processes that share the cases."""

    def missing(self) -> str:
        """Say what the campaign needs that is not here; empty if it can run."""
        return ""

    def prepare(self, folder: Path) -> None:
        """Make what all cases of a worker share, in a folder of the worker."""

    def attack(self, case: Case) -> Counts:
        """Try one case.

        Raises:
            Exception: fastseg did not survive it.
        """
        raise NotImplementedError


def typed(call: Callable[[], Any]) -> Counts:
    """Call fastseg, which must return or raise one of its own errors."""
    try:
        call()
    except FastsegError:
        return Counts(refused=1)
    return Counts()


def require(holds: bool, promise: str) -> None:
    """Check a promise.

    Raises:
        BrokenPromiseError: It does not hold.
    """
    if not holds:
        raise BrokenPromiseError(promise)
