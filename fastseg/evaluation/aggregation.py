"""Scores of many objects in few numbers: of every task, and over the tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """Scores in six numbers; NaN where there is no score."""

    n: int
    """Scores that count: those that are numbers."""

    undefined: int
    """Scores that are NaN, left out of the others."""

    mean: float
    median: float
    q1: float
    """First quartile, linear between scores as NumPy has it."""

    q3: float

    @staticmethod
    def of(scores: Iterable[float]) -> Spread:
        """Summarise scores; NaN is counted and left out."""
        values = np.array(list(scores), np.float64)
        known = values[~np.isnan(values)]
        undefined = len(values) - len(known)
        if not len(known):
            return Spread(0, undefined, math.nan, math.nan, math.nan, math.nan)
        with np.errstate(invalid="ignore"):  # distances may be infinite
            q1, median, q3 = np.percentile(known, (25, 50, 75))
        return Spread(
            len(known), undefined, float(known.mean()), float(median), float(q1), float(q3)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One score over a dataset."""

    tasks: Mapping[str, Spread]
    """Scores of each task, in the order of their names."""

    over_tasks: float
    """Unweighted mean of the tasks' means, as Mazurowski et al. print it."""

    over_samples: Spread
    """All scores at once, as the averages of Shi et al. seem to be."""

    @staticmethod
    def of(tasks: Sequence[str], scores: Sequence[float]) -> Aggregate:
        """Summarise scores, each of which belongs to the task at its place."""
        held: dict[str, list[float]] = {task: [] for task in sorted(set(tasks))}
        for task, score in zip(tasks, scores, strict=True):
            held[task].append(score)
        spreads = {task: Spread.of(values) for task, values in held.items()}
        means = [spread.mean for spread in spreads.values() if spread.n]
        over_tasks = float(np.mean(means)) if means else math.nan
        return Aggregate(spreads, over_tasks, Spread.of(scores))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {
            "mean_over_tasks": self.over_tasks,
            "samples": self.over_samples.as_dict(),
            "tasks": {task: spread.as_dict() for task, spread in self.tasks.items()},
        }
