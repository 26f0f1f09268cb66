"""Timing of contenders in turns, so that a busy moment affects them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

SECONDS_OF_REST = 0.2
"""Seconds until the idle threads of a runtime sleep."""


def milliseconds(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every contender ``rounds`` times.

    Each warms up at the beginning of each turn, so that caches and allocator are not those of the
    previous one. The rest before it lets the previous one's threads, which spin for some time, fall
    asleep.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(SECONDS_OF_REST)
            run()
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times
