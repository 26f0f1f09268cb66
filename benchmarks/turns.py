"""Contestants timed in turns, so that a busy moment meets them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

SECONDS_OF_REST = 0.2
"""Until threads of a runtime that has nothing to do are asleep."""


def milliseconds(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every contestant ``rounds`` times.

    Each warms up at the beginning of each turn: what the one before left in the caches and in the
    allocator is not its business. Nor are that one's threads, which wait for more work without
    sleep for some time.
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
