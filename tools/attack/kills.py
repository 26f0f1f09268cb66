"""Writers that are killed at random moments: what is there then is whole, or absent."""

from __future__ import annotations

import subprocess
import time

from tools.attack import writers
from tools.attack.campaign import Case, Counts, require
from tools.attack.starved import KINDS, ROOT, Writing, finish, typed_end

_LONGEST = 0.4
"""Seconds after the first write within which the process is killed; a write takes less."""


class Kills(Writing):
    """SIGKILL while folders and files are written over and over again."""

    name = "kills"
    cases, short_cases = 50, 6
    budget, short_budget = 150.0, 10.0

    def attack(self, case: Case) -> Counts:
        """Kill a writer, look at what it left, and write again."""
        kind = KINDS[case.index % len(KINDS)]
        folder = case.folder / "place"
        with subprocess.Popen(  # noqa: S603
            self.command(kind, folder, "often"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None  # noqa: S101
            # One case of ten is killed while it starts, the others while they write.
            if case.random.random() < 0.9:
                while line := process.stdout.readline():
                    if line == b"ready\n":
                        break
            time.sleep(case.random.random() * _LONGEST)
            require(process.poll() is None, f"the writer of {kind} works until it is killed")
            process.kill()
        writers.check(kind, folder, complete=False, killed=True)
        counts = typed_end(case, finish(self.command(kind, folder)))
        require(not counts.refused, "the next run works")
        # Single files that were killed stay hidden beside; folders are taken back.
        writers.check(kind, folder, complete=True, killed=kind in ("embedding", "cache"))
        return Counts()
