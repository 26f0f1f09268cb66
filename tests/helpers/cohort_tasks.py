"""Tasks of cohorts that end their process, or tell where and when it worked, for tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks.base import Product
from fastseg.cohort.tasks.images import EverythingTask, SegmentTask


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
        if "slow" in path.name:
            with path.with_suffix(".begun").open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(1)
        return super()._make(item, path)


@dataclass(frozen=True, kw_only=True)
class NodeTask(EverythingTask):
    """Everything mode that leaves a file named by the node of Ray that it ran on."""

    def _make(self, item: Item, path: Path) -> Product:
        time.sleep(0.3)
        path.with_suffix(f".{node()}").touch()
        return super()._make(item, path)


@dataclass(frozen=True, kw_only=True)
class TimedTask(SegmentTask):
    """Masks for prompts, and a file beside each image: its time is that of the end, its text the
    node of Ray that did it.
    """

    def _make(self, item: Item, path: Path) -> Product:
        product = super()._make(item, path)
        ended(path).write_text(node())
        return product


def node() -> str:
    """Name the node of Ray that this process belongs to; empty without Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    return str(ray.get_runtime_context().get_node_id())


def ended(image: Path) -> Path:
    """Return the file that ``TimedTask`` leaves."""
    return image.with_suffix(".ended")


def kill_at(image: Path) -> None:
    """Wait until a process works on an image that is slow, and kill it."""
    begun, deadline = image.with_suffix(".begun"), time.monotonic() + 60
    while not begun.exists() or not begun.read_text().endswith("\n"):
        assert time.monotonic() < deadline, "nobody began it"
        time.sleep(0.01)
    os.kill(int(begun.read_text()), signal.SIGKILL)


def begins(image: Path) -> int:
    """Count how often an image that is slow was begun."""
    return len(image.with_suffix(".begun").read_text().splitlines())
