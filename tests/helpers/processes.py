"""Processes that a test starts, none of which outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PATIENCE = 120
"""Seconds after which a process is killed and its test fails."""


@contextmanager
def running(
    command: Sequence[str | Path], *, before: Callable[[], None] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a process group of its own and kill the group at the end.

    SIGINT interrupts the command also where it is ignored here, as under ``nohup`` or in a
    background job.

    Args:
        command: The program and its words.
        before: Called in the new process before the program starts.
        options: Further options of ``subprocess.Popen``. Output is captured as text and
            fastseg is importable from any folder, unless they say otherwise.
    """

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if before is not None:
            before()

    settings: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    }
    process = subprocess.Popen(
        [str(word) for word in command], start_new_session=True, preexec_fn=prepare, **settings
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(
    command: Sequence[str | Path], *, before: Callable[[], None] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command as ``running`` does, to its end."""
    with running(command, before=before, **options) as process:
        out, err = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
