"""Disks that are full: every error is typed, and nothing half-made is left."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import sys

from tools.attack import writers
from tools.attack.campaign import Case, Counts
from tools.attack.starved import KINDS, ROOT, Writing, finish, typed_end

_STEPS = (0, 1, 100, 700, 2000, 5000, 12_000, 30_000, 80_000, 200_000, 1_000_000)
"""Largest file in bytes."""

_SIZES = (4, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Size of the disk in KiB."""


class FileSizes(Writing):
    """Files that may not grow beyond some size (``RLIMIT_FSIZE``)."""

    name = "full disk, by size of files"
    cases, short_cases = len(KINDS) * len(_STEPS), 6
    budget, short_budget = 40.0, 6.0

    def attack(self, case: Case) -> Counts:
        """Write with a limit, and again without."""
        step, kind = divmod(case.index * 7 % self.cases, len(KINDS))
        folder = case.folder / "place"

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (_STEPS[step], _STEPS[step]))

        done = finish(self.command(KINDS[kind], folder), before=limit)
        counts = typed_end(case, done)
        complete = not counts.refused and KINDS[kind] != "cache"
        writers.check(KINDS[kind], folder, complete=complete)
        return counts


class SmallDisk(Writing):
    """A disk in memory of some KiB, mounted for the process alone."""

    name = "full disk, small file system"
    cases, short_cases = len(KINDS) * len(_SIZES), 4
    budget, short_budget = 40.0, 6.0

    def missing(self) -> str:
        """Name what mounting needs."""
        if os.geteuid() or shutil.which("unshare") is None:
            return "needs root and unshare, to mount a small disk"
        if finish(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).returncode:
            return "no disk can be mounted here"
        return super().missing()

    def attack(self, case: Case) -> Counts:
        """Write to the disk, and look at it before it is gone."""
        step, kind = divmod(case.index * 7 % self.cases, len(KINDS))
        folder = case.folder / "place"
        folder.mkdir()
        write = shlex.join(self.command(KINDS[kind], folder))
        here = f"mount -t tmpfs -o size={_SIZES[step]}k none {shlex.quote(str(folder))}"
        notes = f"printf {writers.NOTES} > {shlex.quote(str(folder / writers.NOTES))}"
        look = shlex.join([sys.executable, "-c", _LOOK, KINDS[kind], str(folder)])
        script = (
            f"{here} && {notes} && {{ {write}; code=$?; {look} $code || exit 70; exit $code; }}"
        )
        return typed_end(case, finish(["unshare", "--mount", "sh", "-c", script]))


_LOOK = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tools.attack import writers
kind, folder, code = sys.argv[1:]
writers.check(kind, Path(folder), complete=code == "0" and kind != "cache")
"""
