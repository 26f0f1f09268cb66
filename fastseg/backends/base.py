"""The seam between fastseg and a runtime: one loaded graph, ready to run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.contract import Array, GraphSpec
from fastseg.environment import instructions
from fastseg.errors import BackendError, BackendUnavailableError

_X86 = ("x86_64", "AMD64", "i686")

_INTEGERS = ("avx512_vnni", "avx_vnni")

USE_CPU = 'Use backend="onnxruntime" with device="cpu", or "auto" for both.'

Memory: TypeAlias = Literal["host", "cuda"]


class Backend(Protocol):
    """One loaded graph, ready to run.

    May be called from several threads at once. After ``close`` it runs no more.
    """

    @property
    def name(self) -> str:
        """Runtime and device, ``"onnxruntime:cpu"``."""

    @property
    def memory(self) -> Memory:
        """Where ``run`` takes and leaves its arrays."""

    @property
    def graph(self) -> GraphSpec:
        """The contract, checked against the file at load."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once.

        Args:
            inputs: An array for each input of ``graph``, with its dtype and shape.

        Returns:
            An array for each output of ``graph``, by name.

        Raises:
            BackendError: The inputs do not fit, the runtime failed, or this was closed.
        """

    def close(self) -> None:
        """Give back what the graph holds; harmless when called again."""


@runtime_checkable
class DeviceBacked(Protocol):
    """A backend that can also leave its outputs on the device where it runs."""

    def on_device(self) -> Backend:
        """The same graph with ``memory == "cuda"``, to be closed by itself."""


@runtime_checkable
class Searching(Protocol):
    """A decoder that can also draw masks worth keeping as soon as it has found them."""

    def search(self, inputs: Mapping[str, Array], above: float) -> dict[str, Array]:
        """Run the decoder, and the mask head for those of three masks that score above a bound.

        Args:
            inputs: As for ``run``.
            above: The bound on the predicted IoU.

        Returns:
            ``iou_predictions`` (n, 4) and ``low_res_logits`` (n, 3, h, w) float32, where the masks
            that were not drawn hold anything.
        """


class NotServedError(BackendError):
    """A runtime does not run this graph of this folder, in whatever precision."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a graph is run by, settled before anything is loaded."""

    backend: str
    device: str
    stored: GraphFile
    """The file of the folder that holds the graph."""

    precision: str
    """What the backend computes in, which need not be what the file holds."""

    def __str__(self) -> str:
        """``"openvino:cpu bf16"``."""
        return f"{self.backend}:{self.device} {self.precision}"


class Runtime(Protocol):
    """What a module of the table offers. Nothing here loads a graph but ``open_graph``."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a constant of a module
        """The word that ``backend=`` takes."""

    @property
    def DEVICES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of a module
        """Kinds of devices that it can run on, ``"cpu"`` or ``"cuda"``, the preferred one first."""

    @property
    def OWN_LAYOUT(self) -> bool:  # noqa: N802 - a constant of a module
        """Whether what passes from graph to graph is laid out as only this runtime knows.

        What one of its graphs leaves, another runtime cannot go on with then: where it is taken for
        one graph that decodes prompts, it is taken for all that it serves.
        """

    def require(self, device: str, precision: str) -> str:
        """Settle the device, ``"cpu"`` or ``"cuda:0"``, if this runtime can be had.

        Args:
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
            precision: What is to be computed in, as ``settle`` gave it.

        Raises:
            BackendUnavailableError: It is not installed, too old or does not load; there is no such
                device; or the device cannot compute in the precision.
            BackendError: It never computes in the precision.
        """

    def settle(self, folder: ModelFolder, graph_name: str, precision: str) -> tuple[GraphFile, str]:
        """Settle which file of a folder this runtime takes for a graph, and what it computes in.

        Args:
            folder: A model folder that was read.
            graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
            precision: ``"auto"`` or what the model as a whole was asked to run in. A graph that
                does not bear it is computed in another one.

        Raises:
            NotServedError: This runtime never runs the graph.
            BackendError: It does not run it in the precision, or the folder does not hold it so.
            ModelFolderError: The folder lacks the graph.
        """

    def open_graph(
        self, folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
    ) -> Backend:
        """Load the file of a plan.

        Args:
            folder: A model folder that was read (and, normally, verified).
            plan: What ``require`` and ``settle`` gave.
            threads: CPU cores to use, 0 for all that this process may run on.
            keep_memory: Whether the memory of one run is kept for the next.

        Raises:
            BackendError: The runtime cannot run the file.
            ModelFolderError: The file is not what it should be.
        """


def without_instructions(name: str, precision: str) -> BackendUnavailableError:
    """The error of a runtime that computes in a precision, but not on this processor."""
    return BackendUnavailableError(
        f"{name} in {precision}",
        reason="this processor has no instructions for it",
        remedy='Use precision="fp32".',
    )


def check_device(name: str, devices: tuple[str, ...], device: str) -> None:
    """Refuse a device of a kind that a runtime does not run on.

    Raises:
        BackendUnavailableError: It is of another kind than ``devices``.
    """
    kind = device.partition(":")[0]
    if kind not in ("auto", *devices):
        raise BackendUnavailableError(
            device,
            reason=f"fastseg runs {name} on {' and '.join(devices)} only",
            remedy=USE_CPU if "cpu" in devices else f'Use device="{devices[0]}".',
        )


def require_integers(runtime: str) -> None:
    """Refuse products of 8-bit integers where runtimes would add two of them in 16 bits.

    That is what x86-64 has without VNNI. The sum of two products of 255 and 127 does not fit there
    and is cut off, so that masks would be wrong and nobody told.

    Args:
        runtime: Who would compute, for the message.

    Raises:
        BackendUnavailableError: The processor is such a one.
    """
    if platform.machine() in _X86 and instructions().isdisjoint(_INTEGERS):
        raise without_instructions(runtime, "int8")
