"""The graphs of one model folder, each opened once, when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import SAM, GraphFile
from fastseg.backends.base import Backend, Plan, Searching
from fastseg.backends.fork_safety import in_child
from fastseg.backends.native import runtime as native
from fastseg.backends.selection import open_plan, plan
from fastseg.contract import LOOK, Array
from fastseg.errors import BackendError, ModelFolderError
from fastseg.inference import tuned_plans
from fastseg.inference.concurrency import ConcurrencyLimiter


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user asked to run on; ``"auto"`` leaves the choice to fastseg."""

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0
    """Processor threads; 0 means every core that this process may use."""

    @property
    def is_free(self) -> bool:
        """Whether fastseg may choose runtimes and precision, and so may leave FP32."""
        return self.backend == self.precision == "auto" and self.device in ("auto", "cpu")


UNMEASURED = "FP32, because faster ways have not been measured here: fastseg calibrate does it"
"""Why a model whose choice is free runs as it does where there is no verdict."""

FOR_FRAMES = "FP32, because networks for frames leave it only where a precision is named"
"""The same for a model that takes no prompts: ``calibration`` measures none of them."""


class OpenGraphs(Protocol):
    """Graphs of a model by name, ready to run: a model folder's, or any others."""

    def __getitem__(self, name: str, /) -> Backend:
        """The graph of this name."""

    def run(self, name: str, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        """Run a graph."""

    def search(self, inputs: Mapping[str, Array], above: float, /) -> dict[str, Array] | None:
        """Both stages of the decoder at once, see ``Searching``; None if they cannot be one."""

    def made_by(self, name: str, /) -> str:
        """What runs a graph, in words, ``"onnxruntime:cpu fp32"``."""


class Graphs:
    """Opened graphs by name. Safe to use from several threads.

    Args:
        folder: A model folder that was read (and, normally, verified).
        choice: What to run them on, which is settled for all of them at once. Where it is free,
            a verdict of this machine is followed, and without one everything runs in FP32.
        plans: What runs each graph, if that is settled already.

    Raises:
        BackendUnavailableError: What was named is not here.
        BackendError: A name is not known, or the precision cannot be had.
    """

    def __init__(
        self, folder: ModelFolder, choice: Choice, plans: Mapping[str, Plan] | None = None
    ) -> None:
        self.folder = folder
        self.choice = choice
        if plans is None:
            plans, reason = settle(folder, choice)
        else:
            reason = "as it was given"
        self.reason = reason
        """Why these runtimes and precisions."""
        self.plans: Mapping[str, Plan] = MappingProxyType({**plans})
        """What runs each graph."""
        self._opened: dict[str, Backend] = {}
        self._limiter = ConcurrencyLimiter(choice.threads)
        self._lock = threading.Lock()
        self._closed = False
        in_child(self, Graphs._unlock)

    def __getitem__(self, name: str) -> Backend:
        """Open the graph, or return it if it is open.

        Raises:
            BackendError: The model was closed, or the runtime refuses the graph.
            ModelFolderError: The folder lacks the graph, or its file is damaged.
        """
        settled = self._plan(name)
        with self._lock:
            if self._closed:
                raise BackendError(f"{self.folder.manifest.name} was closed; load it again.")
            if name not in self._opened:
                self._opened[name] = open_plan(self.folder, settled, threads=self.choice.threads)
            return self._opened[name]

    def call(self) -> AbstractContextManager[object]:
        """A context for a whole call, see ``ConcurrencyLimiter.call``."""
        return self._limiter.call()

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph; callers in several threads take turns where cores are short.

        Raises:
            BackendError: The model was closed, or the runtime failed.
            ModelFolderError: The folder lacks the graph, or its file is damaged.
        """
        backend = self[name]
        with self._limiter.run(heavy=self._fills_cores(name)):
            return backend.run(inputs)

    def search(self, inputs: Mapping[str, Array], above: float) -> dict[str, Array] | None:
        """Both stages of the decoder at once, see ``Searching``; None if they cannot be one."""
        decoder = searching(self)
        if decoder is None:
            return None
        with self._limiter.run(heavy=False):
            return decoder.search(inputs, above)

    def made_by(self, name: str) -> str:
        """What runs a graph, in words: ``"openvino:cpu bf16"``."""
        return str(self._plan(name))

    @property
    def runs(self) -> Mapping[str, str]:
        """What runs each graph, in words: ``{"encoder": "openvino:cpu bf16", ...}``."""
        return {name: str(settled) for name, settled in self.plans.items()}

    @property
    def backend(self) -> str:
        """What looks at the picture and what answers prompts, ``"openvino+onnxruntime"``.

        One word where they are the same.
        """
        looks = [self.plans[name].backend for name in LOOK if name in self.plans]
        answers = [self.plans[name].backend for name in ("decoder",) if name in self.plans]
        return "+".join(dict.fromkeys(looks + answers))

    @property
    def device(self) -> str:
        """Where what looks at the picture runs, ``"cpu"``."""
        return next(self.plans[name].device for name in LOOK if name in self.plans)

    @property
    def precision(self) -> str:
        """What that computes in, ``"fp32"``: others may be left in FP32."""
        return next(self.plans[name].precision for name in LOOK if name in self.plans)

    def stored(self, name: str) -> GraphFile:
        """The file of the folder that holds the graph, as it was chosen."""
        return self._plan(name).stored

    def close(self) -> None:
        """Free every graph; further use raises."""
        with self._lock:
            self._closed = True
            while self._opened:
                self._opened.popitem()[1].close()

    def _fills_cores(self, name: str) -> bool:
        """Whether a run keeps a team of threads busy that a second run would have to share.

        Native kernels have threads of their own in each call, which wait without taking a core.
        """
        settled = self._plan(name)
        return name in LOOK and settled.device == "cpu" and settled.backend != native.NAME

    def _unlock(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def _plan(self, name: str) -> Plan:
        if name not in self.plans:
            raise ModelFolderError(
                f"{self.folder.path} has no graph {name!r}. Export the model again."
            )
        return self.plans[name]


class GivenGraphs:
    """Graphs that were opened elsewhere, and for those that are missing a model folder's.

    Args:
        given: Opened graphs by name.
        precision: What they compute in.
        others: Where the others are.
    """

    def __init__(
        self, given: Mapping[str, Backend], precision: str, others: Graphs | None = None
    ) -> None:
        self._given, self._precision, self._others = given, precision, others

    def __getitem__(self, name: str) -> Backend:
        """The graph of this name.

        Raises:
            BackendError: It was not given, and there are no others.
        """
        if name in self._given:
            return self._given[name]
        if self._others is None:
            raise BackendError(f"there is no graph {name!r}, but {', '.join(self._given)}.")
        return self._others[name]

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph."""
        return self[name].run(inputs)

    def search(self, inputs: Mapping[str, Array], above: float) -> dict[str, Array] | None:
        """Both stages of the decoder at once, see ``Searching``; None if they cannot be one."""
        decoder = searching(self)
        return None if decoder is None else decoder.search(inputs, above)

    def made_by(self, name: str) -> str:
        """What runs a graph, in words."""
        if name in self._given or self._others is None:
            return f"{self[name].name} {self._precision}"
        return self._others.made_by(name)


def searching(graphs: OpenGraphs) -> Searching | None:
    """The decoder, if it searches and is what draws masks too."""
    decoder = graphs["decoder"]
    same = graphs.made_by("decoder") == graphs.made_by("mask_head")
    return decoder if same and isinstance(decoder, Searching) else None


def exact_plans(folder: ModelFolder, choice: Choice) -> dict[str, Plan]:
    """What runs each graph where nothing was measured: FP32, wherever the folder holds it.

    Raises:
        BackendUnavailableError: What was named is not here.
        BackendError: A name is not known, or the precision cannot be had.
    """
    return _plans(folder, choice.device, lambda _: (choice.backend, choice.precision))


def _plans(
    folder: ModelFolder, device: str, words: Callable[[str], tuple[str, str]]
) -> dict[str, Plan]:
    """A plan for each graph of a folder, by the backend and precision that ``words`` gives it."""
    names = dict.fromkeys(stored.graph.name for stored in folder.manifest.graphs.values())
    found = {}
    for name in names:
        backend, precision = words(name)
        found[name] = plan(folder, name, device=device, backend=backend, precision=precision)
    return found


def settle(folder: ModelFolder, choice: Choice) -> tuple[dict[str, Plan], str]:
    """What runs each graph under a choice, and why, in a sentence.

    Raises:
        BackendUnavailableError: What was named is not here.
        BackendError: A name is not known, or the precision cannot be had.
    """
    exact = exact_plans(folder, choice)
    if not choice.is_free or any(each.device != "cpu" for each in exact.values()):
        return exact, "as it was asked for"
    if folder.manifest.family != SAM:
        return exact, FOR_FRAMES
    verdict = tuned_plans.find(folder, threads=choice.threads)
    if verdict is None:
        return exact, UNMEASURED

    def words(name: str) -> tuple[str, str]:
        return verdict.backends[name], verdict.precisions[name]

    try:
        found = _plans(folder, "cpu", words)
    except (BackendError, KeyError) as error:
        return exact, f"FP32, because what was measured to be faster cannot be had: {error}"
    return found, f"the fastest that passed, measured on {verdict.measured}"
