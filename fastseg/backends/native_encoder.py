"""The native image encoder as a backend: SAM's vision transformer in BF16, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from fastseg import tensor_file
from fastseg.backends.native_graph import NativeGraph
from fastseg.contract import Array
from fastseg.errors import ModelFolderError

if TYPE_CHECKING:
    from fastseg import ops

_LOADED: WeakValueDictionary[tuple[str, str], ops.EncoderKernel] = WeakValueDictionary()
"""Opened kernels by hash of the weights and table: models loaded twice share one."""

_LOADING = threading.Lock()


class NativeEncoder(NativeGraph["ops.EncoderKernel"]):
    """The encoder's graph, run by the native kernel."""

    def _answer(self, kernel: ops.EncoderKernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"embedding": kernel.embed(inputs["image"], threads=self._threads)}


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
