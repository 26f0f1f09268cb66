"""Writers under limits: their processes, and what has to hold when they have ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.attack import writers
from tools.attack.campaign import BrokenPromiseError, Campaign, Case, Counts, packages_missing

ROOT = Path(__file__).parents[2]
KINDS = tuple(writers.WRITERS)


class Writing(Campaign):
    """Attacks on processes that write."""

    memory_bound = None
    case_seconds = 90.0

    def missing(self) -> str:
        """Name the packages of the tiny model and of the command line."""
        return packages_missing("onnx", "onnxruntime", "click", "rich")

    def prepare(self, folder: Path) -> None:
        """Make the model and an image."""
        from fastseg.testing import tiny_sam_folder

        self.model = tiny_sam_folder(folder / "model")
        writers.write_image(folder)

    def command(self, kind: str, folder: Path, *more: str) -> list[str]:
        """Return the words of a writer's process, whose folder is made."""
        folder.mkdir(exist_ok=True)
        (folder / writers.NOTES).write_text(writers.NOTES)
        module = ["-m", "tools.attack.writers"]
        return [sys.executable, *module, kind, str(self.model), str(folder), *more]


def finish(
    command: Sequence[str], *, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end; ``before`` is called in it first."""
    return subprocess.run(  # noqa: S603
        command,
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        preexec_fn=before,
    )


def typed_end(case: Case, done: subprocess.CompletedProcess[str]) -> Counts:
    """Check that a writer ended well or by a typed error.

    Raises:
        BrokenPromiseError: It ended otherwise.
    """
    if done.returncode not in (0, writers.REFUSED) or "Traceback" in done.stderr:
        (case.folder / "stderr.txt").write_text(done.stderr)
        last = done.stderr.strip().rpartition("\n")[2]
        raise BrokenPromiseError(f"a writer ended with {done.returncode}: {last}")
    return Counts(refused=int(done.returncode == writers.REFUSED))
