"""How much goes on at once: as many runs of graphs, and calls, as the cores are enough for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from fastseg.backends.fork_safety import in_child
from fastseg.environment import thread_count, usable_cores


class Turnstile:
    """Lets callers in several threads use a model without crowding the processor.

    A run has all the threads that the model was given. A runtime that looks at a picture keeps them
    busy from beginning to end: two such runs that share the cores wait for each other's threads,
    and take longer than one after the other. Runs that answer prompts leave gaps, and so do the
    reading of a picture and the drawing of masks, which are for the most part one thread's work.

    Args:
        threads: What a run has, 0 for every core that this process may use.
    """

    def __init__(self, threads: int) -> None:
        cores = usable_cores()
        self.looks = cores // thread_count(threads)
        """Runs at once that keep all of their threads busy: as many as the cores are enough for."""
        self.runs = self.looks + 1
        """Runs of any kind at once: one more fills the gaps."""
        self.calls = max(cores, self.runs)
        """Whole calls at once. Any further ones would only hold their pictures in memory."""
        self._open()
        in_child(self, Turnstile._open)

    def call(self) -> AbstractContextManager[object]:
        """A context in which a call has a place, from its picture to its masks. Not to be nested.

        Runs may be inside of it, and it inside of no run.
        """
        return self._calls

    @contextmanager
    def run(self, *, looks: bool) -> Iterator[None]:
        """Wait for a place, and hold it during the ``with`` block. Not to be nested.

        Args:
            looks: Whether the run keeps all of its threads busy.
        """
        # In this order: who waits to look keeps no place from a run that could go on.
        with self._looks if looks else nullcontext(), self._runs:
            yield

    def _open(self) -> None:
        """Free every place. In a child, threads of the parent will not give theirs back."""
        self._looks = threading.Semaphore(self.looks)
        self._runs = threading.Semaphore(self.runs)
        self._calls = threading.Semaphore(self.calls)
