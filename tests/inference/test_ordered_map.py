"""``ordered_map`` gives items to a few threads and results in order."""

from __future__ import annotations

import threading
import time

import pytest

from fastseg.inference.concurrency import ordered_map


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers):
    assert ordered_map(lambda item: item * item, range(9), workers=workers) == [
        item * item for item in range(9)
    ]


def test_as_many_calls_go_on_at_once_as_there_are_workers():
    meeting = threading.Barrier(3)
    # Each call waits for two others: with fewer workers the barrier would break.
    met = ordered_map(lambda _: meeting.wait(timeout=30), range(3), workers=3)
    assert sorted(met) == [0, 1, 2]


def test_one_worker_is_the_caller():
    assert set(ordered_map(lambda _: threading.get_ident(), range(3), workers=1)) == {
        threading.get_ident()
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_is_raised_and_ends_further_calls(workers):
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ValueError("item 0")
        time.sleep(0.02)

    with pytest.raises(ValueError, match="item 0"):
        ordered_map(work, range(1000), workers=workers)
    assert len(begun) < 1000
