"""Limits on memory and processes: fastseg may fail, but it ends and leaves nothing half-made."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

from fastseg.storage.paths import names_in
from tools.attack import writers
from tools.attack.campaign import Case, Counts
from tools.attack.starved import KINDS, Writing, finish

_MEGABYTES = (200, 300, 400, 500, 600, 700, 800, 1000, 1200, 1600, 2000)
_PROCESSES = (1, 2, 3, 4, 6, 8, 12, 16, 32)

_USER = 64_017
"""User without a process, whose processes are counted; the superuser's are not."""

_RIGHTS = "+dac_override,+dac_read_search"


class _Limited(Writing):
    """Processes whose libraries may fail in any way, also by a signal: they have to end."""

    case_seconds = 60.0

    def end(self, case: Case, kind: str, before: Callable[[], None], *words: str) -> Counts:
        """Run a writer to its end and look at what it left."""
        folder = case.folder / "place"
        done = finish([*words, *self.command(kind, folder)], before=before)
        (case.folder / "end.txt").write_text(f"{done.returncode}\n{done.stderr}")
        complete = done.returncode == 0 and kind != "cache"
        # An abort in a library leaves unfinished files, as a kill does.
        killed = done.returncode < 0 or done.returncode >= 128
        writers.check(kind, folder, complete=complete, killed=killed)
        return Counts(refused=int(done.returncode != 0))


class MemoryLimits(_Limited):
    """Little address space (``RLIMIT_AS``)."""

    name = "limits on memory"
    cases, short_cases = len(KINDS) * len(_MEGABYTES), 6
    budget, short_budget = 40.0, 6.0

    def attack(self, case: Case) -> Counts:
        """Write under the limit."""
        step, kind = divmod(case.index * 7 % self.cases, len(KINDS))
        size = _MEGABYTES[step] * 10**6
        return self.end(
            case, KINDS[kind], lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))
        )


class ProcessLimits(_Limited):
    """Few threads and processes (``RLIMIT_NPROC``)."""

    name = "limits on processes and threads"
    cases, short_cases = len(KINDS) * len(_PROCESSES), 6
    budget, short_budget = 40.0, 6.0
    workers = 1

    def missing(self) -> str:
        """Name what the superuser needs to be counted."""
        if os.geteuid() == 0 and shutil.which("setpriv") is None:
            return "needs setpriv, because the processes of root are not counted"
        return super().missing()

    def attack(self, case: Case) -> Counts:
        """Write under the limit."""
        step, kind = divmod(case.index * 7 % self.cases, len(KINDS))
        words = []
        if os.geteuid() == 0:
            rights = [f"--inh-caps={_RIGHTS}", f"--ambient-caps={_RIGHTS}"]
            words = ["setpriv", f"--reuid={_USER}", *rights]
        count = _PROCESSES[step] + (0 if words else _own_processes())
        limit = (count, count)
        return self.end(
            case,
            KINDS[kind],
            lambda: resource.setrlimit(resource.RLIMIT_NPROC, limit),
            *words,
        )


def _own_processes() -> int:
    """Count the threads of this user, which the limit counts too."""
    return sum(
        len(names_in(process / "task"))
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _owner(process) == os.getuid()
    )


def _owner(process: Path) -> int:
    try:
        return process.stat().st_uid
    except OSError:  # it has ended meanwhile
        return -1
