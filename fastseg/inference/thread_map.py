"""Items that are worked on by a few threads, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def shared_out(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> list[Result]:
    """Call a function for every item, for as many at once as there are workers.

    A team of threads has gaps, at its end and between its calls: the calls of another worker fill
    them. With one worker nothing leaves the caller's thread.

    Args:
        function: What is called.
        items: What it is called for; small, for all of them are taken at once.
        workers: Calls at once, at least 1.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: What the function raised for the first item that failed; calls that have not
            begun then are not made.
    """
    if workers == 1:
        return [function(item) for item in items]
    pool = ThreadPoolExecutor(workers, "fastseg-worker")
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)
