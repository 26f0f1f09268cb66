"""The graphs of one model folder, each opened once, when it is first needed."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from fastseg.artifacts import ModelFolder
from fastseg.backends.protocol import Backend
from fastseg.backends.select import Plan, open_graph, plan
from fastseg.errors import BackendError
from fastseg.manifest import GraphFile


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user asked to run on; ``"auto"`` leaves the choice to fastseg."""

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0
    """Processor threads; 0 means every core that this process may use."""


class Graphs:
    """Opened graphs by name. Safe to use from several threads."""

    def __init__(self, folder: ModelFolder, choice: Choice) -> None:
        self.folder = folder
        self.choice = choice
        self._opened: dict[str, Backend] = {}
        self._plans: dict[str, Plan] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __getitem__(self, name: str) -> Backend:
        """Open the graph, or return it if it is open.

        Raises:
            BackendError: The model was closed, or the runtime refuses the graph.
            ModelFolderError: The file is damaged.
        """
        with self._lock:
            if self._closed:
                raise BackendError(f"{self.folder.manifest.name} was closed; load it again.")
            if name not in self._opened:
                choice = self.choice
                self._opened[name] = open_graph(
                    self.folder,
                    name,
                    device=choice.device,
                    backend=choice.backend,
                    precision=choice.precision,
                    threads=choice.threads,
                )
            return self._opened[name]

    def stored(self, name: str) -> GraphFile:
        """The file of the folder that holds the graph, as it was chosen."""
        return self._plan(name).stored

    def precision(self, name: str) -> str:
        """What the graph computes in, ``"fp32"``."""
        return self._plan(name).precision

    def close(self) -> None:
        """Free every graph; further use raises."""
        with self._lock:
            self._closed = True
            while self._opened:
                self._opened.popitem()[1].close()

    def _plan(self, name: str) -> Plan:
        # Asked for in every call, and settled as long as the model is open. Two threads that ask
        # at once settle it alike, so no lock is needed.
        if name not in self._plans:
            choice = self.choice
            self._plans[name] = plan(
                self.folder,
                name,
                device=choice.device,
                backend=choice.backend,
                precision=choice.precision,
            )
        return self._plans[name]
