"""Jobs, which take longer than a request: events with progress, a result, an end at any time."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread

from fastseg.errors import FastsegError
from fastseg.sam.mask_generator import Progress
from fastseg.server.refusals import RefusalError, error_body, unforeseen

Event = dict[str, Any]


class Cancelled(Exception):  # noqa: N818  # no error: somebody wished it
    """A job was cancelled."""


class Job:
    """One call of everything mode, or of propagation through a volume.

    Args:
        call: Makes the result, ready for JSON; it is given a function to report progress to.
        owner: Token of the client.
        seconds: Longest time that it may take.
    """

    def __init__(self, call: Callable[[Progress], Event], owner: str, seconds: float) -> None:
        self.id = secrets.token_urlsafe(12)
        self.owner = owner
        self._call = call
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._cancelled = threading.Event()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._progress: tuple[int, int] | None = None

    def cancel(self) -> None:
        """End the job after the batch of points, or the slice, that it is at."""
        self._cancelled.set()

    async def events(self, limiter: anyio.CapacityLimiter) -> AsyncIterator[Event]:
        """Run the job, and yield what happens.

        Progress that the reader has no time for is left out. The job ends when the reader does.

        Args:
            limiter: The jobs that run at once.
        """
        yield {"event": "accepted", "job": self.id}
        task = asyncio.ensure_future(anyio.to_thread.run_sync(self._run, limiter=limiter))
        try:
            while not task.done():
                change = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({task, change}, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                self._changed.clear()
                if self._progress is not None and not task.done():
                    done, total = self._progress
                    yield {"event": "progress", "done": done, "total": total}
            yield task.result()
        finally:
            self.cancel()

    def _run(self) -> Event:
        try:
            self._report(0, 0)
            return {"event": "result", **self._call(self._report)}
        except Cancelled:
            return {"event": "cancelled"}
        except FastsegError as error:
            return {"event": "error", **error_body(error)}
        except Exception as error:  # the answer has begun, so its last line tells
            return {"event": "error", **error_body(unforeseen(error))}

    def _report(self, done: int, total: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        if time.monotonic() > self._end:
            raise RefusalError(
                504, f"the job took longer than {self._seconds:g} s. Ask for less at once."
            )
        if total:
            self._progress = (done, total)
            self._loop.call_soon_threadsafe(self._changed.set)


class Jobs:
    """The jobs of a server: a few run, a few wait, any further one is refused."""

    def __init__(self, most: int, running: int) -> None:
        self._most = most
        self._running = running
        self._limiter: anyio.CapacityLimiter | None = None
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        """Count the jobs that run or wait."""
        return len(self._jobs)

    async def events(self, job: Job) -> AsyncIterator[Event]:
        """Yield the events of a job that ``add`` took."""
        if self._limiter is None:  # it belongs to the loop that serves
            self._limiter = anyio.CapacityLimiter(self._running)
        try:
            async for event in job.events(self._limiter):
                yield event
        finally:
            self._jobs.pop(job.id, None)

    def add(self, job: Job) -> None:
        """Take a job.

        Raises:
            RefusalError: There are too many.
        """
        if len(self._jobs) >= self._most:
            raise RefusalError(
                503, f"{len(self._jobs)} jobs run or wait. Send it again later.", retry_after=10
            )
        self._jobs[job.id] = job

    def cancel(self, number: str, owner: str) -> None:
        """Cancel a job of a client.

        Raises:
            RefusalError: The client has no such job, or it has ended.
        """
        job = self._jobs.get(number)
        if job is None or job.owner != owner:
            raise RefusalError(404, "no job has this identifier: it has ended.")
        job.cancel()

    def cancel_all(self) -> None:
        """Cancel every job."""
        for job in self._jobs.values():
            job.cancel()
