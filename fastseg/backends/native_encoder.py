"""The native image encoder as a backend: SAM's vision transformer in BF16, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from fastseg import tensor_file
from fastseg.backends.protocol import thread_count
from fastseg.contract import Array, Graph
from fastseg.errors import BackendError, ModelFolderError

if TYPE_CHECKING:
    from fastseg import ops

_LOADED: WeakValueDictionary[tuple[str, str], ops.EncoderKernel] = WeakValueDictionary()
"""Opened kernels by hash of the weights and table: models loaded twice share one."""

_LOADING = threading.Lock()


class NativeEncoder:
    """The encoder's graph, run by the native kernel.

    Args:
        kernel: The opened encoder.
        graph: Its contract.
        threads: Cores to use, 0 for all that this process may run on.
    """

    memory: Literal["host"] = "host"

    def __init__(self, kernel: ops.EncoderKernel, graph: Graph, *, threads: int = 0) -> None:
        self.name = "native:cpu"
        self.graph = graph
        self._kernel: ops.EncoderKernel | None = kernel
        self._threads = thread_count(threads)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see ``Backend.run``."""
        # Held here so that a close() from another thread cannot take it away in the middle.
        kernel = self._kernel
        if kernel is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        if (reason := self.graph.mismatch(inputs)) is not None:
            raise BackendError(f"{reason}. Give what the graph's contract asks for.")
        return {"embedding": kernel.embed(inputs["image"], threads=self._threads)}

    def close(self) -> None:
        """Let go of the kernel; harmless when repeated."""
        self._kernel = None


def open_kernel(path: Path, content: str, table: str) -> ops.EncoderKernel:
    """Open the weights of an encoder, or find them opened.

    Args:
        path: A file of ``tensor_file``.
        content: Its hash.
        table: One of ``ops.encoder_tables()``.

    Raises:
        ModelFolderError: The file is damaged or holds another network.
    """
    from fastseg import ops

    with _LOADING:
        kernel = _LOADED.get((content, table))
        if kernel is None:
            weights = tensor_file.read(path)
            try:
                kernel = ops.EncoderKernel(weights, table=table)
            except ModelFolderError as error:
                raise ModelFolderError(f"{path}: {error}") from error
            _LOADED[content, table] = kernel
    return kernel
