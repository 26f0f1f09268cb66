"""The contract of every graph: the names, shapes and dtypes that exports write and backends run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Dimension: TypeAlias = int | str
"""A fixed size, or the name of a size that a call may choose (``"prompts"``)."""

DType: TypeAlias = Literal["float32", "float16", "int32"]

Role: TypeAlias = Literal["image", "prompt"]
"""The input that a graph works on: an image, or prompts on an image that was encoded."""

OPSET = 18
"""ONNX operator set of every written graph; installed runtimes refuse newer ones."""

IR_VERSION = 9
"""ONNX file format of every written graph."""

LABEL_PADDING = -1
LABEL_BACKGROUND = 0
LABEL_FOREGROUND = 1
LABEL_BOX_TOP_LEFT = 2
LABEL_BOX_BOTTOM_RIGHT = 3

MASK_VECTOR = 32
"""Length of the vector whose product with the upscaled image tokens is a mask."""

MASK_SLOTS = 4
"""Masks of SAM's decoder for a prompt: slot 0 is the single mask, slots 1 to 3 are alternatives."""

ALTERNATIVES = MASK_SLOTS - 1
"""Masks of a prompt that are alternatives to each other."""

SINGLE, MULTIPLE = slice(0, 1), slice(1, MASK_SLOTS)
"""Slots of the single mask of a prompt, and of its alternatives."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: DType
    shape: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """One network in one file: its inputs and outputs, in order."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def role(self) -> Role:
        """The input that the graph works on."""
        return graph_role(self.name)

    def mismatch(self, arrays: Mapping[str, Array]) -> str | None:
        """Say in words why ``arrays`` cannot be the inputs of this graph; None if they can."""
        expected = {tensor.name: tensor for tensor in self.inputs}
        if set(arrays) != set(expected):
            return f"{self.name} takes {sorted(expected)}, not {sorted(arrays)}"
        sizes: dict[str, int] = {}
        for name, array in arrays.items():
            tensor = expected[name]
            if array.dtype != np.dtype(tensor.dtype):
                return f"{name} of {self.name} is {tensor.dtype}, not {array.dtype}"
            if len(array.shape) != len(tensor.shape) or any(
                size != (wanted if isinstance(wanted, int) else sizes.setdefault(wanted, size))
                for size, wanted in zip(array.shape, tensor.shape, strict=True)
            ):
                return f"{name} of {self.name} has shape {tensor.shape}, not {array.shape}"
        return None


SAM_GRAPHS: Mapping[str, str] = MappingProxyType(
    {
        "encoder": "image -> embedding, once per image",
        "image_state": "embedding -> what every prompt of the image shares, once per image",
        "decoder": "points -> IoU predictions, mask vectors and image tokens, once per prompt",
        "decoder_mask": "points and a mask prompt -> the same, with nothing shared",
        "mask_head": "image tokens and mask vectors -> low-resolution logits, for the survivors",
    }
)
"""The graphs of a SAM folder. Inputs and outputs that the pipeline itself reads and writes:

- ``encoder``: ``image`` float32 (images, 3, side, side), normalised and padded, to ``embedding``
  float32 (images, 256, grid, grid), grid = side / 16 for SAM. Further outputs are passed, by name
  and unchanged, to the graphs below that have an input of that name.
- ``image_state``: ``embedding`` (1, 256, grid, grid) to any number of outputs. Each is passed, by
  name and unchanged, to the graphs below that have an input of that name.
- ``decoder``: ``point_coords`` float32 (prompts, points, 2), x before y in pixels of the square,
  ``point_labels`` int32 (prompts, points), boxes being two points with labels 2 and 3, padding
  -1; to ``iou_predictions`` float32 (prompts, 4), ``mask_vectors`` float32 (prompts, 4, 32), or 64
  for SAM-HQ, and ``image_tokens``, whose first axis is prompts and whose other axes each runtime
  defines.
- ``decoder_mask``: the same and ``mask_input`` float32 (prompts, 1, 4*grid, 4*grid).
- ``mask_head``: ``image_tokens`` (survivors, ...) and ``mask_vectors`` (survivors, masks, ...) to
  ``low_res_logits`` float32 (survivors, masks, 4*grid, 4*grid).
"""

UNET_GRAPH = "network"
"""The one graph of a folder of family ``"unet"``."""

GUIDED_GRAPH = "network"
"""The one graph of a folder of family ``"ritm"`` or ``"specialist"``."""

_IMAGE_GRAPHS = ("encoder", UNET_GRAPH)


@cache
def graph_role(name: str) -> Role:
    """Tell which input a graph works on.

    The precision and the device of a model are those of its image graph.

    Args:
        name: A key of ``SAM_GRAPHS``, or ``UNET_GRAPH``.
    """
    return "image" if name in _IMAGE_GRAPHS else "prompt"


def unet_network(side: int, channels: int, classes: int) -> GraphSpec:
    """Describe the graph of a network that segments frames without prompts.

    Args:
        side: Height and width of a frame in pixels.
        channels: 3 (luma and chroma) or 1 (luma).
        classes: Output channels, each a probability of its own.
    """
    frames = TensorSpec("frames", "float32", ("batch", channels, side, side))
    probabilities = TensorSpec("probabilities", "float32", ("batch", classes, side, side))
    return GraphSpec(UNET_GRAPH, (frames,), (probabilities,))


def guided_network(
    guidance: int, *, channels: int = 3, size: tuple[int, int] | None = None
) -> GraphSpec:
    """Describe the graph of a network that takes prompts as channels beside those of the image.

    Args:
        guidance: Channels that prompts are written into.
        channels: Channels of the image.
        size: Height and width of the input in pixels; None leaves both open.
    """
    sides: tuple[Dimension, Dimension] = ("height", "width") if size is None else size
    image = TensorSpec("image", "float32", ("batch", channels, *sides))
    maps = TensorSpec("guidance", "float32", ("batch", guidance, *sides))
    logits = TensorSpec("logits", "float32", ("batch", 1, *sides))
    return GraphSpec(GUIDED_GRAPH, (image, maps), (logits,))
