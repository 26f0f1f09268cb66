"""One graph that a native kernel runs: what decoder and encoder have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Literal, TypeVar

from fastseg.contract import Array, GraphSpec
from fastseg.environment import thread_count
from fastseg.errors import BackendError

Kernel = TypeVar("Kernel")


class NativeGraph(Generic[Kernel]):
    """A graph and the kernel that runs it; a subclass says how.

    Args:
        kernel: The opened kernel, which other graphs may share.
        graph: The contract.
        threads: Cores to use, 0 for all that this process may run on, which is also the most.
    """

    name = "native:cpu"
    memory: Literal["host"] = "host"

    def __init__(self, kernel: Kernel, graph: GraphSpec, *, threads: int = 0) -> None:
        self.graph = graph
        self._kernel: Kernel | None = kernel
        self._threads = thread_count(threads)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see ``Backend.run``."""
        return self._answer(self._checked(inputs), inputs)

    def _checked(self, inputs: Mapping[str, Array]) -> Kernel:
        """The kernel, if the inputs fit the contract and nobody closed it."""
        # Held here so that a close() from another thread cannot take it away in the middle.
        kernel = self._kernel
        if kernel is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        if (reason := self.graph.mismatch(inputs)) is not None:
            raise BackendError(f"{reason}. Give what the graph's contract asks for.")
        return kernel

    def close(self) -> None:
        """Let go of the kernel, whose memory goes with the last graph; harmless when repeated."""
        self._kernel = None

    def _answer(self, kernel: Kernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the kernel makes of inputs that fit the contract."""
        raise NotImplementedError
