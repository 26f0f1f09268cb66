"""The work queue: calls of models in a few threads, and a refusal where too many wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from fastseg.server.refusals import RefusalError

Result = TypeVar("Result")

_FIRST_GUESS_S = 0.5
_MEMORY = 0.2
"""Share of the newest call in the mean duration."""


class WorkQueue:
    """Some workers, and the requests that wait for them.

    Args:
        workers: Calls at once.
        max_waiting: Requests that may wait beside them.
        wait_s: Seconds that one of them may wait for its result.
    """

    def __init__(self, workers: int, max_waiting: int, wait_s: float) -> None:
        self.workers = workers
        self.max_waiting = max_waiting
        self.wait_s = wait_s
        self.inside = 0
        """Requests that are computed or wait."""
        self._mean_s = _FIRST_GUESS_S
        self._limiter: anyio.CapacityLimiter | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return max(0, self.inside - self.workers)

    @property
    def retry_after(self) -> float:
        """Seconds until a worker is probably free, at least 1."""
        return max(1.0, self._mean_s * (self.inside + 1) / self.workers)

    async def run(self, call: Callable[[], Result]) -> Result:
        """Make a call in a worker.

        Raises:
            RefusalError: Too many wait already (503), or the result is not there in time (504).
        """
        if self.waiting >= self.max_waiting and self.inside >= self.workers:
            raise RefusalError(
                503,
                f"{self.inside} requests are computed or wait already. Send it again later.",
                retry_after=self.retry_after,
            )
        if self._limiter is None:  # it belongs to the loop that serves
            self._limiter = anyio.CapacityLimiter(self.workers)
        self.inside += 1
        task = asyncio.ensure_future(
            anyio.to_thread.run_sync(self._timed(call), limiter=self._limiter)
        )
        # A worker that nobody waits for any more still takes its place.
        task.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self.wait_s)
        except asyncio.TimeoutError:
            raise RefusalError(
                504, f"the result took longer than {self.wait_s:g} s. Ask for less at once."
            ) from None

    def _timed(self, call: Callable[[], Result]) -> Callable[[], Result]:
        def timed() -> Result:
            start = time.monotonic()
            try:
                return call()
            finally:
                self._mean_s += _MEMORY * (time.monotonic() - start - self._mean_s)

        return timed

    def _leave(self, task: asyncio.Future[Result]) -> None:
        self.inside -= 1
        if not task.cancelled():
            task.exception()  # so that one that nobody waits for is not reported as lost
