"""A fake runtime in fastseg's table of runtimes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends import table
from fastseg.backends.base import Backend, Plan, Runtime
from fastseg.backends.table import Entry


class FakeRuntime(Runtime):
    """A runtime on the CPU.

    Args:
        name: The word that ``backend=`` takes.
        resolve: ``Runtime.resolve`` without ``allow_uncompared``.
        open_graph: ``Runtime.open_graph``.
        own_layout: See ``Runtime``.
    """

    devices = ("cpu",)

    def __init__(
        self,
        name: str,
        *,
        resolve: Callable[[ModelFolder, str, str], tuple[GraphFile, str]],
        open_graph: Callable[..., Backend],
        own_layout: bool = False,
    ) -> None:
        self.name = name
        self.own_layout = own_layout
        self.opens = open_graph
        self._resolve = resolve

    def require(self, device: str, precision: str) -> str:
        """Be available."""
        return "cpu"

    def resolve(
        self,
        folder: ModelFolder,
        graph_name: str,
        precision: str,
        *,
        allow_uncompared: bool = False,
    ) -> tuple[GraphFile, str]:
        """Resolve as the test says."""
        return self._resolve(folder, graph_name, precision)

    def open_graph(
        self, folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
    ) -> Backend:
        """Open what the test says."""
        return self.opens(folder, plan, threads=threads, keep_memory=keep_memory)

    def version(self) -> str:
        """Return a version."""
        return "1.0"


def install(monkeypatch: pytest.MonkeyPatch, *entries: Runtime | str) -> None:
    """Replace the table of runtimes.

    Args:
        monkeypatch: Restores the table.
        entries: Runtimes, or names of the real ones, in the order of preference.
    """
    real = table.RUNTIMES

    def row(entry: Runtime | str) -> tuple[str, Entry]:
        if isinstance(entry, str):
            return entry, real[entry]
        return entry.name, Entry(lambda: entry, entry.needs_gpu)

    monkeypatch.setattr(table, "RUNTIMES", dict(map(row, entries)))
