"""The native U-Net as a backend: the network for ultrasound frames on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastseg.artifacts import safetensors
from fastseg.backends.native.backend import NativeGraph
from fastseg.backends.native.kernel_cache import OpenedKernels
from fastseg.contract import Array, GraphSpec, unet_network
from fastseg.errors import ModelFolderError

if TYPE_CHECKING:
    from fastseg import ops

_OPENED: OpenedKernels[ops.UnetKernel] = OpenedKernels()
"""By hash of the weights, side and table: models loaded twice share one."""


class NativeUnet(NativeGraph["ops.UnetKernel"]):
    """The graph of a network for frames, run by the native kernel."""

    def _compute(self, kernel: ops.UnetKernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = kernel.probabilities(inputs["frames"], threads=self._threads)
        return {"probabilities": found}


def unsupported_reason(path: Path, graph: GraphSpec, side: int) -> str:
    """Say why the kernel does not run a network; empty if it does.

    The names and sizes of the first and the last layer decide. Those of the others follow from
    them, and the kernel checks each when it opens the weights.

    Args:
        path: A file of ``artifacts.safetensors`` with the weights.
        graph: The contract.
        side: Of a frame in pixels.
    """
    from fastseg import ops

    try:
        entries = safetensors.entries(path)
    except ModelFolderError as error:
        return str(error)
    first, head = entries.get("down.0.0.weight"), entries.get("head.weight")
    if first is None or head is None or len(first.shape) != 4 or not head.shape:
        return f"{path} does not hold the weights of the echo U-Net"
    width, channels, *_ = first.shape
    classes = head.shape[0]
    if graph != unet_network(side, channels, classes):
        return f"{path} is not of the sizes that model.json says"
    return ops.unet_unsupported_reason(width=width, channels=channels, classes=classes, side=side)


def open_kernel(path: Path, content: str, side: int, table: str) -> ops.UnetKernel:
    """Open the weights of a U-Net, or find them opened.

    Args:
        path: Weights that ``unsupported_reason`` has no objection to.
        content: Hash of the file.
        side: Of a frame in pixels.
        table: Kernel table, one of ``ops.kernel_tables()``.

    Raises:
        ModelFolderError: The file is damaged, holds another network or values that are not finite.
    """
    from fastseg import ops

    make = partial(ops.UnetKernel, side=side, kernel_table=table)
    return _OPENED.find((content, side, table), path, safetensors.read, make)
