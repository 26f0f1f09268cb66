"""A task of cohorts whose images end the process that reads them, for tests of workers."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks.base import Product
from fastseg.cohort.tasks.images import EverythingTask


@dataclass(frozen=True, kw_only=True)
class CrashingTask(EverythingTask):
    """Everything mode that dies as a decoder would: always, once, or by an odd error."""

    def _make(self, item: Item, path: Path) -> Product:
        if "crash" in path.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "once" in path.name and not (died := path.with_suffix(".died")).exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "odd" in path.name:
            raise RuntimeError("an error that nobody expected")
        return super()._make(item, path)
