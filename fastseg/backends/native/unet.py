"""The native U-Net as a backend: the network for ultrasound frames in BF16, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts import onnx_reader
from fastseg.backends.native.backend import NativeGraph
from fastseg.backends.native.kernel_cache import OpenedKernels
from fastseg.backends.native.unet_matcher import weights_of
from fastseg.contract import Array, GraphSpec, unet_network
from fastseg.errors import ModelFolderError

if TYPE_CHECKING:
    from fastseg import ops

_OPENED: OpenedKernels[ops.UnetKernel] = OpenedKernels()
"""By hash of the graph and side: models loaded twice share one."""


class NativeUnet(NativeGraph["ops.UnetKernel"]):
    """The graph of a network for frames, run by the native kernel."""

    def _answer(self, kernel: ops.UnetKernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = kernel.probabilities(inputs["frames"], threads=self._threads)
        return {"probabilities": found}


def misfit(path: Path, graph: GraphSpec, side: int) -> str:
    """Why the kernel does not run a graph, in words; empty if it does.

    Args:
        path: The graph's file.
        graph: The contract.
        side: Of a frame in pixels.
    """
    from fastseg import ops

    try:
        weights = weights_of(onnx_reader.read(path))
    except ModelFolderError as error:
        return str(error)
    if weights is None:
        return f"{path} is not the echo U-Net"
    first, head = weights["down.0.0.weight"].shape, weights["head.weight"].shape
    if len(first) != 4 or not head or graph != unet_network(side, first[1], head[0]):
        return f"{path} is not of the sizes that model.json says"
    width, channels, *_ = first
    return ops.unet_misfit(width=width, channels=channels, classes=head[0], side=side)


def open_kernel(path: Path, content: str, side: int) -> ops.UnetKernel:
    """Open the weights of a U-Net, or find them opened.

    Args:
        path: A graph that ``misfit`` had nothing against.
        content: Its hash.
        side: Of a frame in pixels.

    Raises:
        ModelFolderError: The file is damaged or holds another network.
    """
    from fastseg import ops

    return _OPENED.find((content, side), path, _read, partial(ops.UnetKernel, side=side))


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    weights = weights_of(onnx_reader.read(path))
    if weights is None:
        raise ModelFolderError(f"{path} is not the echo U-Net. Export the model again.")
    return weights
