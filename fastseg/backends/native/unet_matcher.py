"""Whether a graph is the echo U-Net, and its weights by the names of its state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.onnx_reader import Node, OnnxGraph
from fastseg.contract import Array

LEVELS = 5
"""Resolutions of the network."""

Attributes = Mapping[str, "int | tuple[int, ...]"]

_DEFAULTS: Attributes = MappingProxyType(
    {
        "group": 1,
        "dilations": (1, 1),
        "output_padding": (0, 0),
        "pads": (0, 0, 0, 0),
        "strides": (1, 1),
        "ceil_mode": 0,
        "storage_order": 0,
    }
)
"""What ONNX takes for attributes that are not written."""

_TO_FLOAT32 = 1
"""ONNX's number for it."""

_NONE = np.empty(0, np.float32)
"""Stands for weights that are not in the file."""


class _Operation(NamedTuple):
    """A node of the network."""

    kind: str
    inputs: tuple[str, ...]
    """``"frames"``, or indices of the nodes that the inputs come from."""

    layer: str
    """In the state dict, if it has weights."""

    attributes: Attributes


def weights_of(graph: OnnxGraph) -> dict[str, NDArray[np.float32]] | None:
    """The weights of a graph that is the echo U-Net with a sigmoid, node for node; else None.

    Layers and order are those of ``export.unet_network.UNet``; sizes are left to the kernel.

    Returns:
        Float32 arrays by their names in the state dict. A bias that the graph leaves out is 0.
    """
    stored = dict(graph.weights)
    stored |= {
        node.outputs[0]: stored[node.inputs[0]] for node in graph.nodes if _widens(node, stored)
    }
    nodes = [node for node in graph.nodes if node.outputs[0] not in stored]
    expected = list(_operations())
    if len(nodes) != len(expected) or len(graph.inputs) != 1:
        return None
    names, found = {graph.inputs[0]: "frames"}, dict[str, Array]()
    for index, (node, operation) in enumerate(zip(nodes, expected, strict=True)):
        read, held = node.inputs, list[Array]()
        if operation.layer:
            read, held = node.inputs[:1], [stored.get(name, _NONE) for name in node.inputs[1:]]
            found |= _weights(operation, held)
        attributes = {**_DEFAULTS, **node.attributes}
        if (node.kind, tuple(map(names.get, read))) != operation[:2] or any(
            attributes.get(key) != value for key, value in operation.attributes.items()
        ):
            return None
        names[node.outputs[0]] = str(index)
    if graph.outputs != nodes[-1].outputs or any(array is _NONE for array in found.values()):
        return None
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


def _weights(operation: _Operation, held: list[Array]) -> dict[str, Array]:
    weight, *bias = held or [_NONE]
    if not bias:
        out = weight.shape[operation.kind == "ConvTranspose" :][:1]
        bias = [np.zeros(out, np.float32)]
    return {f"{operation.layer}.weight": weight, f"{operation.layer}.bias": bias[0]}


def _widens(node: Node, stored: Mapping[str, Array]) -> bool:
    """Whether a node makes float32 of weights that are stored as float16."""
    return (
        node.kind == "Cast"
        and node.inputs[0] in stored
        and node.attributes.get("to") == _TO_FLOAT32
    )


def _operations() -> Iterator[_Operation]:
    """What the network does, in order."""
    last = "frames"
    count = 0

    def step(
        kind: str, *more: str, layer: str = "", **attributes: int | tuple[int, ...]
    ) -> _Operation:
        nonlocal count, last
        made = _Operation(kind, (last, *more), layer, {**_DEFAULTS, **attributes})
        last, count = str(count), count + 1
        return made

    def convolutions(name: str) -> Iterator[_Operation]:
        for index in range(2):
            yield step("Conv", layer=f"{name}.{index}", pads=(1, 1, 1, 1))
            yield step("Relu")

    skipped = []
    for level in range(LEVELS):
        yield from convolutions(f"down.{level}")
        if level < LEVELS - 1:
            skipped.append(last)
            yield step("MaxPool", kernel_shape=(2, 2), strides=(2, 2))
    for level in reversed(range(LEVELS - 1)):
        yield step("ConvTranspose", layer=f"up.{level}", strides=(2, 2))
        yield step("Concat", skipped[level], axis=1)
        yield from convolutions(f"merge.{level}")
    yield step("Conv", layer="head")
    yield step("Sigmoid")
