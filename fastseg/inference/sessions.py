"""The graphs of a model, each planned at load and opened once, when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import SAM, UNET
from fastseg.backends.base import Backend, MasksAbove, Plan, ThresholdedDecoder
from fastseg.backends.fork_safety import in_child
from fastseg.backends.selection import exactly, open_plan, plan
from fastseg.backends.table import runtime
from fastseg.contract import Array, graph_role
from fastseg.errors import BackendError, ModelFolderError
from fastseg.inference import tuned_plans
from fastseg.inference.concurrency import ConcurrencyLimiter
from fastseg.inputs.numbers import shown, whole_number


@dataclass(frozen=True, slots=True)
class Choice:
    """The user's choice of device, backend and precision; ``"auto"`` leaves it to fastseg."""

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0
    """Processor threads; 0 means every core that this process may use."""

    allow_uncompared: bool = False
    """True if an engine below FP32 may run that was not compared with FP32 on this GPU. Only the
    comparison itself allows it."""

    def __post_init__(self) -> None:
        """Check the types, which a runtime would stumble over.

        Raises:
            BackendError: A name is no text, or ``threads`` is no integer of at least 0.
        """
        for name in ("device", "backend", "precision"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise BackendError(
                    f'{name} must be text like "auto", not {shown(value)}. Give its name.'
                )
        threads = whole_number(self.threads, "threads", BackendError, least=0)
        object.__setattr__(self, "threads", threads)

    @property
    def is_free(self) -> bool:
        """True if fastseg may choose runtimes and precision, and so may leave FP32."""
        return self.backend == self.precision == "auto" and self.device in ("auto", "cpu")


UNMEASURED = "FP32 is the default. Run fastseg calibrate for a faster backend with the same masks"
"""The reason for the plans of a model whose choice is free, without a tuned plan."""

FOR_FRAMES = 'FP32 is the default. The precision "bf16" is faster on processors that support it'
"""The same for a model that takes no prompts: ``validation.autotune`` measures none of them."""

UNTUNED = "FP32 is the default. Models of this family are not calibrated"
"""The same for models of the remaining families."""


class GraphRunner(Protocol):
    """The graphs of a model by name, ready to run."""

    def __getitem__(self, name: str, /) -> Backend:
        """Return the graph of this name."""

    def run(self, name: str, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        """Run a graph."""

    def decode_above(
        self, name: str, inputs: Mapping[str, Array], masks: MasksAbove, /
    ) -> dict[str, Array] | None:
        """Run both stages of the decoder at once, see ``ThresholdedDecoder``; None if it cannot."""

    def runs_on(self, name: str, /) -> str:
        """Name runtime, device and precision of a graph, ``"onnxruntime:cpu fp32"``."""


class Sessions:
    """The opened graphs of a model folder by name. Safe to use from several threads.

    Args:
        folder: A model folder that was read (and, normally, verified).
        choice: Device, backend and precision; the plans of all graphs are resolved at once. Where
            the choice is free, a tuned plan of this machine is followed, and without one everything
            runs in FP32.
        plans: The plan of each graph, if they are resolved already.

    Raises:
        BackendUnavailableError: A named runtime or device is not here.
        BackendError: A name is not known, or the precision is not available.
        ModelFolderError: The folder has no graph.
    """

    def __init__(
        self, folder: ModelFolder, choice: Choice, plans: Mapping[str, Plan] | None = None
    ) -> None:
        self.folder = folder
        self.choice = choice
        if plans is None:
            plans, reason = resolve_plans(folder, choice)
        else:
            reason = "as it was given"
        if not plans:
            raise ModelFolderError(f"{folder.path} lists no graph. Export the model again.")
        self.reason = reason
        """The reason for these runtimes and precisions, in a sentence."""
        self.plans: Mapping[str, Plan] = MappingProxyType({**plans})
        """The plan of each graph."""
        self._runs = {name: str(each) for name, each in plans.items()}
        # The device and the precision of a model are those of its image graph.
        leading = plans[min(plans, key=lambda name: graph_role(name) != "image")]
        answering = plans.get("decoder", leading)
        self.backend = "+".join(dict.fromkeys((leading.backend, answering.backend)))
        """The runtimes of the image graph and of the decoder, ``"openvino+onnxruntime"``; one word
        where they are the same."""
        self.device = leading.device
        """The device of the image graph, ``"cpu"``."""
        self.precision = leading.precision
        """The precision of the image graph, ``"fp32"``; other graphs may be left in FP32."""
        self._fills_cores = {name for name, each in plans.items() if fills_cores(each)}
        self._opened: dict[str, Backend] = {}
        self._limiter = ConcurrencyLimiter(choice.threads)
        self._lock = threading.Lock()
        self._closed = False
        in_child(self, Sessions._unlock)

    def __getitem__(self, name: str) -> Backend:
        """Open the graph, or return it if it is open.

        Raises:
            BackendError: The model was closed, or the runtime refuses the graph.
            ModelFolderError: The folder lacks the graph, or its file is damaged.
        """
        if name not in self.plans:
            raise ModelFolderError(
                f"{self.folder.path} has no graph {name!r}. Export the model again."
            )
        with self._lock:
            if self._closed:
                raise BackendError(f"{self.folder.manifest.name} was closed; load it again.")
            if name not in self._opened:
                self._opened[name] = open_plan(
                    self.folder, self.plans[name], threads=self.choice.threads
                )
            return self._opened[name]

    def call(self) -> AbstractContextManager[object]:
        """Return a context for a whole call, see ``ConcurrencyLimiter.call``."""
        return self._limiter.call()

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph; callers in several threads wait for each other where cores are short.

        Raises:
            BackendError: The model was closed, or the runtime failed.
            ModelFolderError: The folder lacks the graph, or its file is damaged.
        """
        backend = self[name]
        with self._limiter.run(heavy=name in self._fills_cores):
            return backend.run(inputs)

    def decode_above(
        self, name: str, inputs: Mapping[str, Array], masks: MasksAbove
    ) -> dict[str, Array] | None:
        """Run both stages of the decoder at once, see ``ThresholdedDecoder``; None if it cannot."""
        decoder = thresholded_decoder(self, name)
        if decoder is None:
            return None
        with self._limiter.run(heavy=False):
            return decoder.decode_above(inputs, masks)

    def runs_on(self, name: str) -> str:
        """Name runtime, device and precision of a graph, ``"openvino:cpu bf16"``."""
        return self._runs[name]

    @property
    def runs(self) -> Mapping[str, str]:
        """Runtime, device and precision of each graph: ``{"encoder": "openvino:cpu bf16"}``."""
        return {**self._runs}

    def close(self) -> None:
        """Free every graph; further use raises."""
        with self._lock:
            self._closed = True
            while self._opened:
                self._opened.popitem()[1].close()

    def _unlock(self) -> None:
        """Make the lock new in a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()


class PreopenedSessions:
    """Graphs that were opened elsewhere; those that are missing are taken from a model folder.

    Args:
        given: Opened graphs by name.
        precision: The precision that they compute in.
        others: The sessions of the other graphs.
    """

    def __init__(
        self, given: Mapping[str, Backend], precision: str, others: Sessions | None = None
    ) -> None:
        self._given, self._precision, self._others = given, precision, others

    def __getitem__(self, name: str) -> Backend:
        """Return the graph of this name.

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

    def decode_above(
        self, name: str, inputs: Mapping[str, Array], masks: MasksAbove
    ) -> dict[str, Array] | None:
        """Run both stages of the decoder at once, see ``ThresholdedDecoder``; None if it cannot."""
        decoder = thresholded_decoder(self, name)
        return None if decoder is None else decoder.decode_above(inputs, masks)

    def runs_on(self, name: str) -> str:
        """Name runtime, device and precision of a graph."""
        if name in self._given or self._others is None:
            return f"{self[name].name} {self._precision}"
        return self._others.runs_on(name)


def thresholded_decoder(graphs: GraphRunner, name: str) -> ThresholdedDecoder | None:
    """Return a decoder, if it runs the mask head itself and the mask head is its runtime's.

    Args:
        graphs: Of a folder.
        name: ``"decoder"`` or ``"decoder_mask"``.
    """
    decoder = graphs[name]
    same = graphs.runs_on(name) == graphs.runs_on("mask_head")
    return decoder if same and isinstance(decoder, ThresholdedDecoder) else None


def fills_cores(each: Plan) -> bool:
    """Tell whether a run keeps all of its threads busy, so that a second run would share cores."""
    on_cpu = each.device == "cpu" and graph_role(each.stored.graph.name) == "image"
    return on_cpu and runtime(each.backend).fills_cores


def exact_plans(folder: ModelFolder, choice: Choice) -> dict[str, Plan]:
    """Plan each graph where nothing was tuned: in FP32, wherever the folder holds it.

    Raises:
        BackendUnavailableError: A named runtime or device is not here.
        BackendError: A name is not known, or the precision is not available.
    """
    return _plans(folder, choice, lambda _: (choice.backend, choice.precision))


def resolve_plans(folder: ModelFolder, choice: Choice) -> tuple[dict[str, Plan], str]:
    """Plan each graph of a folder.

    Returns:
        The plans by graph, and the reason for them in a sentence.

    Raises:
        BackendUnavailableError: A named runtime or device is not here.
        BackendError: A name is not known, or the precision is not available.
    """
    exact = exact_plans(folder, choice)
    if not choice.is_free or any(each.device != "cpu" for each in exact.values()):
        return exact, "as it was asked for"
    if folder.manifest.family != SAM:
        return exact, FOR_FRAMES if folder.manifest.family == UNET else UNTUNED
    tuned = tuned_plans.find(folder, threads=choice.threads)
    if tuned is None:
        return exact, UNMEASURED
    try:
        on_cpu = replace(choice, device="cpu")
        found = _plans(
            folder, on_cpu, lambda name: (exactly(tuned.backends[name]), tuned.precisions[name])
        )
    except (BackendError, KeyError) as error:
        return (
            exact,
            f"FP32, because the faster plan of fastseg calibrate is not available: {error}",
        )
    return found, f"the fastest that passed, measured on {tuned.measured}"


def _plans(
    folder: ModelFolder, choice: Choice, words: Callable[[str], tuple[str, str]]
) -> dict[str, Plan]:
    """Plan each graph of a folder with the backend and precision that ``words`` gives it."""
    names = dict.fromkeys(stored.graph.name for stored in folder.manifest.graphs.values())
    found = {}
    for name in names:
        backend, precision = words(name)
        found[name] = plan(
            folder,
            name,
            device=choice.device,
            backend=backend,
            precision=precision,
            allow_uncompared=choice.allow_uncompared,
        )
    return found
