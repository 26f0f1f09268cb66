"""Promises of ``fastseg.benchmarking.repetition``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import comb

import numpy as np
import pytest

from fastseg.benchmarking.repetition import Spread, StoppingRule, median_interval, repeat


def rounds_of(values: Iterator[float]) -> Callable[[], Mapping[str, float]]:
    """A call whose stage ``decode`` takes the given milliseconds, round by round."""
    return lambda: {"encode": 1.0, "decode": next(values)}


def test_a_steady_call_is_stable_after_the_fewest_rounds() -> None:
    rule = StoppingRule(warm_up=3, min_rounds=8)
    values = iter([900.0, 500.0, 100.0, *[10.0] * 100])
    measured = repeat("steady", rounds_of(values), rule)
    assert measured.stable
    assert len(measured.stages["total"].rounds) == 8
    assert measured.stages["decode"].percentile(99) == 10.0, "the warm-up rounds do not count"
    assert measured.stages["total"].percentile(50) == 11.0


def test_an_unsteady_call_ends_at_the_limit_and_says_so() -> None:
    values = iter(np.random.default_rng(0).uniform(1.0, 100.0, 1000))
    measured = repeat("unsteady", rounds_of(values), StoppingRule(max_rounds=30, tolerance=0.001))
    assert not measured.stable
    assert len(measured.stages["total"].rounds) == 30
    assert measured.as_dict()["stable"] is False


def test_no_round_begins_after_the_time_is_up() -> None:
    rule = StoppingRule(warm_up=0, min_rounds=5, max_seconds=0.0)
    measured = repeat("slow", rounds_of(iter([1.0] * 100)), rule)
    assert len(measured.stages["total"].rounds) == 1
    assert not measured.stable


@pytest.mark.parametrize("count", [1, 5])
def test_few_rounds_say_nothing_about_the_median(count: int) -> None:
    assert median_interval(count) == (-1, -1)
    assert Spread(np.ones(count)).half_width == np.inf


@pytest.mark.parametrize("count", [6, 7, 20, 101, 1000])
def test_the_interval_is_the_narrowest_with_95_percent(count: int) -> None:
    def confidence(low: int) -> float:
        return 1 - 2 * sum(comb(count, below) for below in range(low + 1)) / 2**count

    low, high = median_interval(count)
    assert low + high == count - 1
    assert confidence(low) >= 0.95
    assert confidence(low + 1) < 0.95


def test_percentiles_are_ordered_and_within_the_rounds() -> None:
    spread = Spread(np.random.default_rng(1).gamma(2.0, size=200))
    values = spread.as_dict()
    assert spread.rounds.min() <= values["p50_ms"] <= values["p90_ms"] <= values["p99_ms"]
    assert values["p99_ms"] <= spread.rounds.max()


def test_per_mask_latency_is_unknown_without_masks() -> None:
    assert repeat("embed", rounds_of(iter([1.0] * 50)), StoppingRule()).per_mask_ms is None
