"""The report of a run of a cohort: what it ran on, how long it took, and what failed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastseg import environment, provenance

_PERCENTILES = (50, 90, 99, 100)


@dataclass(slots=True)
class Counts:
    """Outcomes of a run so far."""

    items: int
    """Items of the part."""

    done: int = 0
    kept: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of each item that is done, in this run or an earlier one."""

    begun: float = field(default_factory=time.perf_counter)

    def add(self, key: str, status: str, seconds: float, error: Mapping[str, str] | None) -> None:
        """Count an outcome."""
        if error is not None:
            self.failures.append({"item": key, **error})
            return
        if status == "kept":
            self.kept += 1
        else:
            self.done += 1
        self.seconds.append(seconds)

    @property
    def finished(self) -> int:
        """Items that have an outcome."""
        return self.done + self.kept + len(self.failures)

    @property
    def rate(self) -> float:
        """Items a second that were worked on in this run."""
        worked = self.done + len(self.failures)
        return worked / max(time.perf_counter() - self.begun, 1e-9)

    def line(self) -> str:
        """Say in one line how far the run is, how fast, and how long it will take."""
        text = f"{self.finished} of {self.items}"
        if self.failures:
            text += f" ({len(self.failures)} failed)"
        if self.done:
            left = (self.items - self.finished) / self.rate
            text += f", {self.rate:.2f} items/s, {_duration(left)} left"
        return text


def report(
    about: Mapping[str, Any], ran_on: Mapping[str, Any], engine: Mapping[str, Any], counts: Counts
) -> dict[str, Any]:
    """Make the report of a run, ready for JSON.

    Args:
        about: The description of the task.
        ran_on: The provenance of the model.
        engine: The engine and its workers.
        counts: The outcomes.
    """
    seconds = counts.seconds or [float("nan")]
    return {
        "notice": provenance.NOTICE,
        "versions": environment.versions(),
        "machine": environment.machine(),
        **ran_on,
        **about,
        **engine,
        "items": counts.items,
        "done": counts.done,
        "kept": counts.kept,
        "failed": len(counts.failures),
        "left": counts.items - counts.finished,
        "seconds": time.perf_counter() - counts.begun,
        "items_per_second": counts.rate,
        "item_seconds": {
            f"p{share}": float(np.percentile(seconds, share)) for share in _PERCENTILES
        },
        "failures": counts.failures,
    }


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
