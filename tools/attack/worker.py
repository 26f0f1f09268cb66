"""The process in which cases run, and what its parent does when it dies or hangs."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from tools.attack import memory
from tools.attack.campaign import Campaign, Case, Counts, Failure

_ENDED_SECONDS = 10


@dataclass(frozen=True)
class Place:
    """The folder of a worker, and the seed of its cases."""

    folder: Path
    seed: int

    @property
    def case(self) -> Path:
        """Folder of the current case."""
        return self.folder / "case"

    @property
    def log(self) -> Path:
        """File with the output of the worker, also of native code."""
        return self.folder / "output.txt"


class Worker:
    """A process that tries one case at a time."""

    def __init__(self, campaign: Campaign, place: Place) -> None:
        self.campaign = campaign
        self.place = place
        self.index = -1
        """The case that runs; -1 during the start."""
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(campaign, place, theirs))
        self._process.start()
        theirs.close()

    @property
    def patience(self) -> float:
        """Seconds that the worker may take for what it does now."""
        return self.campaign.start_seconds if self.index < 0 else self.campaign.case_seconds

    def begin(self, index: int) -> None:
        """Give the worker a case."""
        self.index = index
        self.connection.send(index)

    def answer(self) -> Counts | Failure:
        """Receive the result of the case; the death of the process is a failure."""
        try:
            found: Counts | Failure = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(_ENDED_SECONDS)
            code = self._process.exitcode
            ended = "did not end" if code is None else f"ended with {_named(code)}"
            return Failure(self.index, f"the process {ended}", self._output())
        return found

    def hung(self) -> Failure:
        """End a worker that took too long."""
        told = self._output() + _stacks(self._process.pid)
        self.end()
        return Failure(self.index, f"no end after {self.patience:.0f} s", told)

    def end(self) -> None:
        """Kill the process, and those that it started."""
        if self._process.pid is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
        self._process.join()
        self.connection.close()

    def _output(self) -> str:
        return _text(self.place.log)[-20_000:]


def _named(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _stacks(process: int | None) -> str:
    """Read where the threads of a process wait, in the kernel's words."""
    waits = [
        f"thread {task.name}: {_text(task / 'wchan')}"
        for task in Path(f"/proc/{process}/task").glob("*")
    ]
    return "\n".join(["", *waits])


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # the thread has ended, or the worker has not begun
        return ""


def _serve(campaign: Campaign, place: Place, connection: Connection) -> None:
    """Run cases until the parent ends this process."""
    os.setpgid(0, 0)
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.flush()
    warnings.simplefilter("ignore")
    try:
        os.environ["XDG_CACHE_HOME"] = str(place.folder / "cache")
        campaign.prepare(place.folder)
    except Exception:
        connection.send(Failure(-1, "the campaign cannot be prepared", traceback.format_exc()))
        return
    connection.send(Counts(0))
    while True:
        try:
            index = connection.recv()
        except EOFError:
            return
        os.truncate(place.log, 0)
        connection.send(_tried(campaign, index, place))


def _tried(campaign: Campaign, index: int, place: Place) -> Counts | Failure:
    shutil.rmtree(place.case, ignore_errors=True)
    place.case.mkdir()
    random = Random(f"{place.seed}:{campaign.name}:{index}")
    memory.reset_peak()
    before = memory.resident()
    try:
        counts = campaign.attack(Case(index, random, place.case))
    except BaseException as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Failure(index, reason, traceback.format_exc())
    grown = memory.peak() - before
    if campaign.memory_bound is not None and grown > campaign.memory_bound:
        return Failure(index, f"took {grown / 2**20:,.0f} MiB of memory")
    return counts
