"""The seam between fastseg and a runtime: one loaded graph, ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from fastseg.contract import Array, Graph

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
    def graph(self) -> Graph:
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


def usable_cores() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int) -> int:
    """Threads that ``threads=`` means: 0 is every core, and more than there are cores is no use."""
    cores = usable_cores()
    return min(threads or cores, cores)
