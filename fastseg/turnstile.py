"""How many runs of graphs go on at once: as many as the cores are enough for, and one more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastseg.backends.forks import in_child
from fastseg.backends.protocol import thread_count, usable_cores


class Turnstile:
    """Lets callers in several threads run the graphs of a model without crowding the processor.

    A run has all the threads that the model was given. One more than the cores are enough for fills
    the gaps in which the others wait for memory or for Python; any further ones would share the
    same cores, and each holds the memory of a run.

    Args:
        threads: What a run has, 0 for every core that this process may use.
    """

    def __init__(self, threads: int) -> None:
        self.places = usable_cores() // thread_count(threads) + 1
        """Runs that go on at once."""
        self._free = threading.Semaphore(self.places)
        in_child(self, Turnstile._open_again)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Wait for a place, and hold it during the ``with`` block. Not to be nested."""
        free = self._free
        with free:
            yield

    def _open_again(self) -> None:
        """Forget places that are held by threads of the parent, which will not give them back."""
        self._free = threading.Semaphore(self.places)
