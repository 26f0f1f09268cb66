"""The engine of several processes: an image that crashes one is named, and the others go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks import Task
from fastseg.cohort.work import (
    DEATHS,
    Made,
    crashed,
    error_of,
    import_path,
    make_isolated,
    packed,
    unpacked,
)
from fastseg.environment import usable_cores
from fastseg.errors import CohortError, FastsegError

_SERVE = "import sys; from fastseg.cohort.workers.processes import serve; serve(int(sys.argv[1]))"
EARLY_DEATHS = 3
"""Workers that end while they load the models, one after the other, until the run gives up."""

_PATIENCE = 10.0
"""Seconds that a process gets to end by itself."""


@dataclass(slots=True)
class _Job:
    """An item on its way."""

    item: Item
    made: Made | None = None
    deaths: int = 0


@dataclass(slots=True)
class _Worker:
    """A process, and the job that it has."""

    process: subprocess.Popen[bytes]
    connection: Connection
    job: _Job | None = None
    is_ready: bool = False

    def ended(self) -> str:
        """Wait for the end of the process, and say how it came."""
        self.connection.close()
        code = self.process.wait(_PATIENCE)
        return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


@dataclass
class ProcessWorkers:
    """Processes of this machine, each with models of its own."""

    task: Task
    count: int
    _workers: list[_Worker] = field(default_factory=list)
    _waiting: deque[_Job] = field(default_factory=deque)
    """Jobs that no worker has, in their order."""
    _early: int = 0
    """Workers that have ended while they loaded the models, since one was ready."""

    def map(self, items: Iterable[Item]) -> Iterator[Made]:
        """Do items, at most twice as many at once as there are workers; yield them as they end."""
        ahead, open_jobs = iter(items), list[_Job]()
        threads = max(1, usable_cores() // self.count)
        start = (packed(self.task, threads), self.task.runs())
        try:
            while True:
                while len(open_jobs) < 2 * self.count and (item := next(ahead, None)) is not None:
                    open_jobs.append(_Job(item))
                    self._waiting.append(open_jobs[-1])
                if not open_jobs:
                    return
                while len(self._workers) < min(self.count, len(open_jobs)):
                    self._workers.append(_started(start))
                self._hand_out()
                self._take_in()
                finished = [job.made for job in open_jobs if job.made is not None]
                open_jobs = [job for job in open_jobs if job.made is None]
                self._hand_out()
                yield from finished
        finally:
            self._end()

    def _hand_out(self) -> None:
        """Give every free worker the next job."""
        for worker in self._workers:
            if worker.is_ready and worker.job is None and self._waiting:
                try:
                    worker.connection.send(self._waiting[0].item)
                except OSError:  # it ended without a job, which is seen where it is heard
                    continue
                worker.job = self._waiting.popleft()

    def _take_in(self) -> None:
        """Wait for workers, and take what they say."""
        heard = wait([worker.connection for worker in self._workers])
        for worker in [one for one in self._workers if one.connection in heard]:
            try:
                said = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if worker.job is not None:
                worker.job.made, worker.job = said, None
            elif said is None:
                worker.is_ready, self._early = True, 0
            else:
                raise CohortError(f"a worker could not begin: {said['message']}")

    def _bury(self, worker: _Worker) -> None:
        """Take away a worker that has ended, and let another one try its job once more.

        Raises:
            CohortError: Several have ended while they loaded the models, as others would.
        """
        self._workers.remove(worker)
        how, job = worker.ended(), worker.job
        if not worker.is_ready:
            self._early += 1
            if self._early < EARLY_DEATHS:
                return
            raise CohortError(
                f"a worker ended {how} while it loaded the models. There may be too little memory "
                "for so many: lower --workers."
            )
        if job is None:
            return
        job.deaths += 1
        if job.deaths < DEATHS:
            self._waiting.appendleft(job)
        else:
            job.made = crashed(job.item, how)

    def _end(self) -> None:
        """End all processes; what they are doing is dropped."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
        self._workers.clear()
        self._waiting.clear()


def _started(start: tuple[bytes, Any]) -> _Worker:
    """Start a process of this interpreter, which the module ``__main__`` plays no part in."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", _SERVE, str(theirs.fileno())]
    environment = {**os.environ, "PYTHONPATH": import_path()}
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        pass_fds=[theirs.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # ours may be JSON
        start_new_session=True,  # Ctrl-C is for this process, which ends the others
    )
    theirs.close()
    connection = Connection(ours.detach())
    with suppress(OSError):  # it ended already, which is seen where it is heard
        connection.send(start)
    return _Worker(process, connection)


def serve(descriptor: int) -> None:
    """Do items for the process at the other end of a socket, until it closes it."""
    with Connection(descriptor) as connection:
        content, runs = connection.recv()
        try:
            task = unpacked(content, runs)
        except FastsegError as error:
            connection.send(error_of(error))
            return
        connection.send(None)
        while True:
            try:
                item = connection.recv()
            except EOFError:
                return
            connection.send(make_isolated(task, item))
