"""The interface between fastseg and a runtime: ``Backend``, a loaded graph, and ``Runtime``."""

from __future__ import annotations

import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from fastseg import environment
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.contract import Array, GraphSpec
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
        """Memory of the arrays that ``run`` takes and returns."""

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
        """Free the graph and its memory; harmless when called again."""


@runtime_checkable
class DeviceBacked(Protocol):
    """A backend that can also leave its outputs on the device where it runs."""

    def on_device(self) -> Backend:
        """Return the same graph with ``memory == "cuda"``, to be closed by itself."""


@dataclass(frozen=True, slots=True)
class MasksAbove:
    """The masks that a decoder draws as soon as it knows their scores."""

    slots: slice
    """The m slots of the masks, ``slice(first, end)`` of ``contract.MASK_SLOTS``."""

    threshold: float = -math.inf
    """Predicted IoU that a mask must exceed; with minus infinity all are drawn."""

    extent: tuple[int, int] | None = None
    """Rows and columns of the logits that are wanted, from the top left; None for all."""


@runtime_checkable
class ThresholdedDecoder(Protocol):
    """A decoder that runs its mask head itself, for the masks that score above a threshold."""

    def decode_above(self, inputs: Mapping[str, Array], masks: MasksAbove) -> dict[str, Array]:
        """Run the decoder, and the mask head for the masks above a threshold.

        Args:
            inputs: As for ``run``.
            masks: What is drawn.

        Returns:
            ``iou_predictions`` (n, 4) and ``low_res_logits`` (n, m, h, w) float32. The logits of
            masks that do not exceed the threshold are undefined, and so are those that are not
            wanted.
        """


class NotServedError(BackendError):
    """A runtime does not run this graph of this folder, in any precision."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The runtime, device, file and precision of a graph, resolved before anything is loaded."""

    backend: str
    device: str
    stored: GraphFile
    """The file of the folder that holds the graph."""

    precision: str
    """The precision that the backend computes in; the file may hold another one."""

    allow_uncompared: bool = False
    """See ``Runtime.resolve``."""

    def __str__(self) -> str:
        """Name backend, device and precision: ``"openvino:cpu bf16"``."""
        return f"{self.backend}:{self.device} {self.precision}"


class Runtime(ABC):
    """An entry of the table of runtimes. Only ``open_graph`` loads a graph."""

    name: str
    """The word that ``backend=`` takes."""

    devices: tuple[str, ...]
    """Kinds of devices that it runs on, ``"cpu"`` or ``"cuda"``, the preferred one first."""

    own_layout: bool = False
    """True if arrays between its graphs have a layout of its own.

    Another runtime cannot take such arrays. Where this runtime is chosen for one prompt graph, it
    is chosen for all that it serves.
    """

    fills_cores: bool = True
    """True if an image graph keeps all of its threads busy on a CPU, so that a second one waits."""

    runs_whole_models: bool = True
    """True if it runs every graph of any model. Other runtimes leave image graphs to ``"auto"``."""

    @property
    def slow_for_images(self) -> tuple[str, ...]:
        """Precisions, as asked for, in which ``"auto"`` prefers any other runtime for images."""
        return ()

    @property
    def needs_gpu(self) -> bool:
        """True if it runs on GPUs alone."""
        return "cpu" not in self.devices

    @abstractmethod
    def require(self, device: str, precision: str) -> str:
        """Check that this runtime is available, and resolve the device.

        Args:
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
            precision: The precision to compute in, as ``resolve`` returned it.

        Returns:
            ``"cpu"`` or ``"cuda:0"``.

        Raises:
            BackendUnavailableError: The runtime is not installed, too old or does not load; there
                is no such device; or the device cannot compute in the precision.
            BackendError: The runtime never computes in the precision.
        """

    @abstractmethod
    def resolve(
        self,
        folder: ModelFolder,
        graph_name: str,
        precision: str,
        *,
        allow_uncompared: bool = False,
    ) -> tuple[GraphFile, str]:
        """Resolve the file of a graph, and the precision to compute in.

        Args:
            folder: A model folder that was read.
            graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
            precision: ``"auto"`` or the precision that the model as a whole was asked for. A graph
                that does not support it is computed in another one.
            allow_uncompared: Whether an engine below FP32 may run that was not compared with FP32
                on this GPU. Only comparisons allow it.

        Raises:
            NotServedError: This runtime never runs the graph.
            BackendError: It does not run it in the precision, or the folder does not hold it so.
            ModelFolderError: The folder lacks the graph.
        """

    @abstractmethod
    def open_graph(
        self, folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
    ) -> Backend:
        """Load the file of a plan.

        Args:
            folder: A model folder that was read (and, normally, verified).
            plan: The results of ``require`` and ``resolve``.
            threads: CPU cores to use, 0 for all that this process may run on.
            keep_memory: Whether the memory of one run is kept for the next.

        Raises:
            BackendError: The runtime cannot run the file.
            ModelFolderError: The file is damaged, or another graph than the manifest describes.
        """

    @abstractmethod
    def version(self) -> str:
        """Return the version of the installed runtime.

        Raises:
            BackendUnavailableError: It is not installed, or does not load.
        """

    def report(self) -> dict[str, Any]:
        """Describe the available runtime for ``doctor``: its version and what else it can do."""
        return {"version": self.version()}

    def use_without_device(self) -> str:
        """Describe what the runtime still does where it runs no graph; empty if nothing."""
        return ""


def without_instructions(name: str, precision: str) -> BackendUnavailableError:
    """Make the error of a precision that a runtime has and this processor has not."""
    return BackendUnavailableError(
        f"{name} in {precision}",
        reason="this processor has no instructions for it",
        remedy='Use precision="fp32".',
    )


def check_device(name: str, devices: tuple[str, ...], device: str) -> None:
    """Refuse a device of a kind that a runtime does not run on.

    Raises:
        BackendUnavailableError: ``device`` is of another kind than ``devices``.
    """
    kind = device.partition(":")[0]
    if kind not in ("auto", *devices):
        raise BackendUnavailableError(
            device,
            reason=f"fastseg runs {name} on {' and '.join(devices)} only",
            remedy=USE_CPU if "cpu" in devices else f'Use device="{devices[0]}".',
        )


def require_integers(runtime: str) -> None:
    """Refuse INT8 on processors where runtimes would add two products in 16 bits.

    These are x86-64 processors without VNNI. The sum of two products of 255 and 127 exceeds 16 bits
    and saturates, so masks would be wrong without an error.

    Args:
        runtime: Name of the runtime, for the message.

    Raises:
        BackendUnavailableError: The processor is such a one.
    """
    if platform.machine() in _X86 and environment.instructions().isdisjoint(_INTEGERS):
        raise without_instructions(runtime, "int8")
