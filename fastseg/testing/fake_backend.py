"""A backend made of a Python function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from fastseg.contract import Array, GraphSpec
from fastseg.errors import BackendError


class FakeBackend:
    """A backend that runs a Python function.

    Args:
        graph: Its contract; inputs are checked against it as a real backend does.
        function: Takes the inputs by name and returns the outputs by name.
        name: Runtime and device that it claims to be.
    """

    memory: Literal["host"] = "host"

    def __init__(
        self,
        graph: GraphSpec,
        function: Callable[[Mapping[str, Array]], dict[str, Array]],
        *,
        name: str = "fake:cpu",
    ) -> None:
        self.name = name
        self.graph = graph
        self.calls = 0
        """Number of runs."""
        self._function: Callable[[Mapping[str, Array]], dict[str, Array]] | None = function

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the function; see ``Backend.run``."""
        if self._function is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        if (reason := self.graph.mismatch(inputs)) is not None:
            raise BackendError(f"{reason}. Give the inputs of the graph's contract.")
        self.calls += 1
        return self._function(inputs)

    def close(self) -> None:
        """Refuse to run from now on; harmless when called again."""
        self._function = None
