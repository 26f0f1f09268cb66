"""Work one step behind: in order, bounded, and with the errors of what it calls."""

from __future__ import annotations

import threading

import pytest

from fastseg.behind import Behind


@pytest.mark.parametrize("beside", [True, False])
def test_results_come_in_the_order_of_the_items(beside):
    with Behind(lambda a, b: a - b, beside=beside) as differences:
        for item in range(5):
            differences.add(10 * item, item)
        assert differences.results() == [0, 9, 18, 27, 36]


def test_the_next_item_is_begun_while_one_is_at_work():
    begun, may_end = threading.Event(), threading.Event()

    def slow(item: int) -> int:
        begun.set()
        assert may_end.wait(timeout=30)
        return item

    with Behind(slow, beside=True) as items:
        items.add(1)
        assert begun.wait(timeout=30)
        items.add(2)  # does not wait for the first
        may_end.set()
        assert items.results() == [1, 2]


def test_no_more_than_one_item_waits():
    may_end, third_is_in = threading.Event(), threading.Event()
    with Behind(lambda item: may_end.wait(timeout=30), beside=True) as items:

        def add_three() -> None:
            for item in range(3):
                items.add(item)
            third_is_in.set()

        adding = threading.Thread(target=add_three)
        adding.start()
        assert not third_is_in.wait(timeout=0.2)
        may_end.set()
        adding.join(timeout=30)
        assert third_is_in.is_set()


@pytest.mark.parametrize("beside", [True, False])
def test_an_error_reaches_the_caller_and_nothing_is_left_running(beside):
    def invert(*numbers: int) -> list[float]:
        with Behind(lambda number: 1 / number, beside=beside) as items:
            for number in numbers:
                items.add(number)
            return items.results()

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        invert(1, 0, 2, 3)
    assert threading.active_count() == before
