"""Graphs read for a rewrite, with float32 weights and with nodes grouped into blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir
from onnx_ir.passes.common import ShapeInferencePass

from fastseg.errors import ModelFolderError

BLOCK_DEPTH = 3
"""Length of the module path that names a block: ``blocks.3.attn`` with all that is in it."""

ROOT = "(network)"
"""The block of nodes that belong to no module but the network itself."""

FP32 = onnx_ir.DataType.FLOAT
FP16 = onnx_ir.DataType.FLOAT16

MOVING = frozenset(
    (
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile"),
        *("Concat", "Split", "Slice", "Pad", "Gather", "GatherND", "Identity", "MaxPool"),
    )
)
"""Operators that only move numbers, and so round nothing themselves."""


def read_graph(path: Path) -> onnx_ir.Model:
    """Read a graph; weights that are stored in float16 become float32 again.

    Raises:
        ModelFolderError: The type of a tensor is neither in the file nor can it be inferred.
    """
    model: onnx_ir.Model = onnx_ir.load(path)
    # The result is written to another folder, where references to files would lead nowhere.
    onnx_ir.external_data.load_to_model(model)
    if _untyped(model):
        ShapeInferencePass()(model)
    if untyped := _untyped(model):
        raise ModelFolderError(f"{path}: the type of {untyped[0]} is not known. Export it again.")
    for node in list(model.graph):
        stored = node.inputs[0] if node.op_type == "Cast" else None
        if stored is None or stored.const_value is None or stored.dtype != FP16:
            continue
        value, name = node.outputs[0], str(node.outputs[0].name)
        whole = initializer(model, f"{name}.whole", stored.const_value.numpy().astype(np.float32))
        value.replace_all_uses_with(whole)
        model.graph.remove(node, safe=True)
        del model.graph.initializers[str(stored.name)]
        rename(model, whole, name)
    return model


def _untyped(model: onnx_ir.Model) -> list[str]:
    values = [value for node in model.graph for value in node.outputs]
    return [str(value.name) for value in values if value.name and value.dtype is None]


def block_of(node: onnx_ir.Node) -> str:
    """Find the block of a node, by the module path that its name begins with.

    A node whose name has no module path is a block of its own.
    """
    module, slash, _ = str(node.name).rpartition("/")
    if not slash:
        return str(node.name)
    return ".".join(module.split(".")[:BLOCK_DEPTH]) or ROOT


def is_float(value: onnx_ir.Value | None) -> bool:
    """Tell whether a value is of a floating type that a rewrite may change."""
    return value is not None and value.dtype in (FP32, FP16)


def initializer(model: onnx_ir.Model, name: str, array: np.ndarray) -> onnx_ir.Value:
    """Add a weight to the graph."""
    tensor = onnx_ir.tensor(array, name=name)
    value = onnx_ir.Value(
        name=name,
        type=onnx_ir.TensorType(tensor.dtype),
        shape=onnx_ir.Shape(array.shape),
        const_value=tensor,
    )
    model.graph.register_initializer(value)
    return value


def rename(model: onnx_ir.Model, value: onnx_ir.Value, name: str) -> None:
    """Give a weight of the graph another name."""
    del model.graph.initializers[str(value.name)]
    value.name = name
    model.graph.register_initializer(value)


def must_be_fp32(model: onnx_ir.Model) -> frozenset[onnx_ir.Node]:
    """Find the nodes that stay in float32 whatever the measurements say.

    A softmax sums thousands of terms. The arguments of position sines and cosines are angles of
    hundreds of turns, of which the 11 bits of float16 would leave nothing.
    """
    found = {node for node in model.graph if node.op_type in ("Softmax", "Sin", "Cos")}
    waiting = [node for node in found if node.op_type != "Softmax"]
    while waiting:
        for value in filter(is_float, waiting.pop().inputs):
            before = value.producer() if value is not None else None
            if before is not None and before not in found:
                found.add(before)
                waiting.append(before)
    return frozenset(found)
