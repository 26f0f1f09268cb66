"""The native image encoder as a backend: SAM's vision transformer, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastseg.artifacts import safetensors
from fastseg.backends.native.backend import NativeGraph
from fastseg.backends.native.kernel_cache import OpenedKernels
from fastseg.contract import Array

if TYPE_CHECKING:
    from fastseg import ops

_OPENED: OpenedKernels[ops.EncoderKernel] = OpenedKernels()
"""Kernels by hash of the weights and table: models loaded twice share one."""


class NativeEncoder(NativeGraph["ops.EncoderKernel"]):
    """The encoder's graph, run by the native kernel."""

    def _compute(self, kernel: ops.EncoderKernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = [tensor.name for tensor in self.graph.outputs]
        return dict(zip(names, kernel.maps(inputs["image"], threads=self._threads), strict=True))


def open_kernel(path: Path, content: str, table: str) -> ops.EncoderKernel:
    """Open the weights of an encoder, or return the kernel that has them open.

    Args:
        path: A file of ``artifacts.safetensors``.
        content: Its hash.
        table: One of ``ops.kernel_tables()``.

    Raises:
        ModelFolderError: The file is damaged or holds another network.
    """
    from fastseg import ops

    make = partial(ops.EncoderKernel, kernel_table=table)
    return _OPENED.find((content, table), path, safetensors.read, make)
