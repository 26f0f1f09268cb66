"""Work that stays one step behind: the end of one item while the next one is begun."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Behind(Generic[Result]):
    """Calls a function for one item after another, in a thread of its own, and keeps the results.

    At most one item waits beside the one at work, so that no more than two are in memory. A team of
    threads has gaps, at its end and between its calls; this fills them. Use it in a ``with`` block.

    Args:
        function: What is called; the result of an item.
        beside: Whether to use a thread; without, every call is made at once.
    """

    def __init__(self, function: Callable[..., Result], *, beside: bool) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(1, "fastseg-behind") if beside else None
        self._calls: list[Future[Result]] = []

    def __enter__(self) -> Behind[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the item at work; one that waits is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, *arguments: Any) -> None:
        """Hand over the next item; waits until at most one is unfinished.

        Raises:
            Exception: What the function raised for an earlier item, or without a thread for this.
        """
        if self._pool is None:
            call: Future[Result] = Future()
            call.set_result(self._function(*arguments))
        else:
            if len(self._calls) >= 2:
                self._calls[-2].result()
            call = self._pool.submit(self._function, *arguments)
        self._calls.append(call)

    def results(self) -> list[Result]:
        """Wait for all items: their results in the order in which they were added.

        Raises:
            Exception: What the function raised for the first item that failed.
        """
        return [call.result() for call in self._calls]
