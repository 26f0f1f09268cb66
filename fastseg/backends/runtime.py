"""The table of runtimes, and the face that each of its modules has."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

from fastseg.artifacts import ModelFolder
from fastseg.backends.protocol import Backend
from fastseg.errors import BackendError, BackendUnavailableError
from fastseg.manifest import GraphFile

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "tensorrt": "fastseg.backends.tensorrt",
        "tensorrt-rtx": "fastseg.backends.tensorrt_rtx",
        "native": "fastseg.backends.native",
        "onnxruntime": "fastseg.backends.ort",
        "openvino": "fastseg.backends.openvino",
    }
)
"""The module of each runtime, in the order in which ``"auto"`` prefers them. A module is imported
when its runtime is asked for: most starts need one."""

ON_GPUS = ("tensorrt", "tensorrt-rtx")
"""Runtimes that ``"auto"`` thinks of only where there is a GPU."""

FOR_PROMPTS = ("native",)
"""Runtimes that answer prompts, and may leave the picture to another one."""

USE_CPU = 'Use backend="onnxruntime" with device="cpu", or "auto" for both.'


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


if TYPE_CHECKING:
    from fastseg.backends import native, openvino, ort, tensorrt, tensorrt_rtx

    _ANSWER_TO_THE_FACE: tuple[Runtime, ...] = (tensorrt, tensorrt_rtx, native, ort, openvino)


def runtime(name: str) -> Runtime:
    """The module of a runtime.

    Args:
        name: A key of ``MODULES``.

    Raises:
        BackendError: There is no such runtime.
    """
    if name not in MODULES:
        raise BackendError(f"There is no runtime {name!r}, but {', '.join(MODULES)}.")
    return cast("Runtime", importlib.import_module(MODULES[name]))


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
