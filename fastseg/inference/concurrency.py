"""Concurrency: how many runs and calls go on at once, and items that a few threads share."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar
from weakref import WeakSet

from fastseg import environment
from fastseg.backends.fork_safety import in_child
from fastseg.environment.threads import Team

LAST_RUN_S = 60.0
"""Longest that the end of the process waits for a run of a daemon thread."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ConcurrencyLimiter:
    """Semaphores that let several threads use a model without oversubscribing the processor.

    A run has all the threads that the model was given. An encoder keeps them busy from beginning
    to end: two encoders that share the cores wait for each other's threads, and take longer than
    one after the other. Decoder runs leave gaps, and so do reading an image and drawing masks,
    which are mostly the work of one thread.

    Args:
        threads: Threads of a run, 0 for every core that this process may use.
    """

    def __init__(self, threads: int) -> None:
        cores = environment.usable_cores()
        self.encoder_slots = cores // environment.thread_count(threads)
        """Heavy runs at once, which keep all of their threads busy: as many as fill the cores."""
        self.run_slots = self.encoder_slots + 1
        """Runs of any kind at once: one more fills the gaps."""
        self.call_slots = max(cores, self.run_slots)
        """Whole calls at once. Any further ones would only hold their images in memory."""
        self._reset()
        in_child(self, ConcurrencyLimiter._reset)
        _LIMITERS.add(self)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wait for a call slot, and hold it from reading an image to drawing its masks.

        Calls must not be nested. Runs may be inside of a call, and no call inside of a run.
        """
        if self._ending():
            yield
            return
        with self._calls:
            with self._counting:
                self._inside += 1
            try:
                yield
            finally:
                with self._counting:
                    self._inside -= 1

    @contextmanager
    def run(self, *, heavy: bool) -> Iterator[None]:
        """Wait for a run slot, and hold it during the ``with`` block. Runs must not be nested.

        Args:
            heavy: Whether the run keeps all of its threads busy, as encoders do. It then needs an
                encoder slot as well.
        """
        if self._ending():
            yield
            return
        # In this order: a run that waits for an encoder slot holds no slot that another could use.
        with self._encoders if heavy else nullcontext(), self._runs:
            yield

    def stop(self) -> None:
        """Let daemon threads begin no call and no run, and wait for those that go on."""
        self._stopped = True
        end = time.monotonic() + LAST_RUN_S
        while self._inside > self._parked and time.monotonic() < end:
            time.sleep(0.001)
        for _ in range(self.run_slots):
            self._runs.acquire(timeout=max(0.0, end - time.monotonic()))

    def _ending(self) -> bool:
        """Tell the main thread that nobody else is left; any other thread ends here."""
        if not self._stopped:
            return False
        if threading.current_thread() is not threading.main_thread():
            with self._counting:
                self._parked += 1
            never = threading.Lock()
            never.acquire()
            never.acquire()
        return True

    def _reset(self) -> None:
        """Free every slot. In a child, threads of the parent will not give theirs back."""
        self._encoders = threading.Semaphore(self.encoder_slots)
        self._runs = threading.Semaphore(self.run_slots)
        self._calls = threading.Semaphore(self.call_slots)
        self._counting = threading.Lock()
        self._inside = self._parked = 0
        self._stopped = False


_LIMITERS: WeakSet[ConcurrencyLimiter] = WeakSet()


@atexit.register
def _stop_runs() -> None:
    """Let no daemon thread be inside a runtime when the interpreter ends: it would abort then."""
    for limiter in list(_LIMITERS):
        limiter.stop()


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> list[Result]:
    """Call a function for every item in a few threads, and return the results in order.

    A native kernel's threads have gaps, at the end of a call and between calls; the calls of
    another worker fill them. With one worker everything stays in the caller's thread.

    Args:
        function: The function to call.
        items: Its arguments; small, because all of them are taken at once.
        workers: Calls at once, at least 1.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: Raised by the function for the first item that failed. Calls that have not
            begun by then are not made.
    """
    if workers == 1:
        return [function(item) for item in items]
    # The caller is one of them.
    with Team(workers - 1) as team:
        return list(team.map(function, items))
