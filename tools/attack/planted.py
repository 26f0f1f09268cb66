"""Failures that are planted: an attack that does not find them is worth nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from fastseg.errors import ImageError
from tools.attack.campaign import BrokenPromiseError, Campaign, Case, Counts, Failure, Outcome

_BOUND = 2**26


def _raise_untyped() -> None:
    raise KeyError("planted")


def _break_promise() -> None:
    raise BrokenPromiseError("planted")


def _raise_typed() -> None:
    raise ImageError("planted: a campaign that lets a typed error through has failed")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _exit() -> None:
    os._exit(0)


def _hang() -> None:
    time.sleep(600)


def _take_memory() -> None:
    bytearray(2 * _BOUND)[:: 2**10] = b"x" * (2 * _BOUND // 2**10)


PLANTED: tuple[Callable[[], None], ...] = (
    *(_raise_untyped, _break_promise, _raise_typed, _die, _exit, _hang, _take_memory),
)


class Planted(Campaign):
    """One failure of each kind."""

    name = "planted failures"
    cases = short_cases = len(PLANTED)
    case_seconds = 5.0
    memory_bound = _BOUND
    workers = 2

    def attack(self, case: Case) -> Counts:
        """Fail."""
        PLANTED[case.index]()
        return Counts()


def as_found(outcome: Outcome) -> Outcome:
    """Turn an outcome of ``Planted`` around: what was not reported is the failure."""
    reported = {failure.index for failure in outcome.failures}
    missed = [
        Failure(index, f"{plant.__name__} was not reported")
        for index, plant in enumerate(PLANTED)
        if index not in reported
    ]
    name = "planted failures, to be reported"
    return Outcome(name, Counts(len(PLANTED)), missed, seconds=outcome.seconds)
