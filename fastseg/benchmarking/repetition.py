"""Repetition of a call until the confidence interval of its median is narrow enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stages = Mapping[str, float]
"""Milliseconds of each stage of one round."""


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Conditions that end a measurement.

    A measurement is stable when the 95 % confidence interval of the median of its total is no
    wider, to either side, than ``tolerance`` of the median. The interval is taken between order
    statistics and assumes no shape of the distribution (Hollander, Wolfe and Chicken 2014, section
    3.6).
    """

    warm_up: int = 2
    """Rounds that are run first and not counted."""

    tolerance: float = 0.03
    """Half-width of the interval, as a fraction of the median."""

    min_rounds: int = 8
    """Rounds before stability is checked."""

    max_rounds: int = 1000
    """Rounds after which the measurement stops, stable or not."""

    max_seconds: float = 20.0
    """Wall-clock after which no new round begins, stable or not; the warm-up is not counted."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of one stage over all rounds."""

    rounds: NDArray[np.float64]
    """(n,) in the order in which they were measured."""

    @property
    def half_width(self) -> float:
        """Half the 95 % confidence interval of the median, relative to it; inf below 6 rounds."""
        low, high = median_interval(len(self.rounds))
        if low < 0:
            return math.inf
        ordered = np.sort(self.rounds)
        middle = float(np.median(ordered))
        return float(ordered[high] - ordered[low]) / 2 / middle if middle > 0 else 0.0

    def percentile(self, percent: float) -> float:
        """Return the value that ``percent`` of the rounds do not exceed, interpolated, in ms."""
        return float(np.percentile(self.rounds, percent))

    def as_dict(self) -> dict[str, float | int]:
        """Return p50, p90 and p99 in ms, the half-width and the number of rounds."""
        percentiles = {f"p{percent}_ms": self.percentile(percent) for percent in (50, 90, 99)}
        return {**percentiles, "half_width": self.half_width, "rounds": len(self.rounds)}


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurement of one call, warm, stage by stage."""

    name: str
    stages: Mapping[str, Spread]
    """Every stage of the call, and ``"total"``, their sum."""

    stable: bool
    """True if the tolerance of the rule was reached."""

    prompts: int = 0
    masks: int = 0
    """Masks that one round returns."""

    @property
    def per_mask_ms(self) -> float | None:
        """Median milliseconds per mask; None for calls without masks."""
        return self.stages["total"].percentile(50) / self.masks if self.masks else None

    def as_dict(self) -> dict[str, Any]:
        """Return all but the single rounds, ready for JSON."""
        return {
            "name": self.name,
            "state": "warm",
            "prompts": self.prompts,
            "masks": self.masks,
            "stable": self.stable,
            "per_mask_ms": self.per_mask_ms,
            "stages": {stage: spread.as_dict() for stage, spread in self.stages.items()},
        }


def repeat(
    name: str, call: Callable[[], Stages], rule: StoppingRule, *, prompts: int = 0
) -> Measurement:
    """Repeat ``call`` until ``rule`` is satisfied.

    Args:
        name: The name of the measurement.
        call: One round. It returns the milliseconds of its stages, the same stages every time.
        rule: When to stop.
        prompts: Prompts of a round, to be kept beside the numbers.

    Returns:
        The measurement; ``stable`` says whether it ended by the tolerance or by the limits.
    """
    for _ in range(rule.warm_up):
        call()
    rounds: list[Stages] = []
    totals: list[float] = []
    stable = False
    start = time.perf_counter()
    while not stable and len(rounds) < rule.max_rounds:
        if rounds and time.perf_counter() - start > rule.max_seconds:
            break
        rounds.append(call())
        totals.append(sum(rounds[-1].values()))
        enough = len(rounds) >= rule.min_rounds
        stable = enough and Spread(np.array(totals)).half_width <= rule.tolerance
    stages = {stage: Spread(np.array([one[stage] for one in rounds])) for stage in rounds[0]}
    stages["total"] = Spread(np.array(totals))
    return Measurement(name, stages, stable, prompts=prompts)


@cache
def median_interval(count: int) -> tuple[int, int]:
    """Return ranks (from 0) of the order statistics that hold the median with 95 % confidence.

    The number of values below the median is binomial(count, 1/2), so the ranks are the widest
    whose tails hold at most 2.5 % each. They are ``(-1, -1)`` below six values, where even the
    whole range holds the median with less confidence.
    """
    tail, low = 0.0, -1
    for below in range(count):
        tail += math.comb(count, below) / 2**count
        if tail > 0.025:
            break
        low = below
    return (low, count - 1 - low) if low >= 0 else (-1, -1)
