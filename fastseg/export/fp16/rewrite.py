"""A float32 graph rewritten in mixed precision, every change of type an explicit cast.

The result is strongly typed: it says of each tensor what it is computed in, and a runtime needs no
flag and has no choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from fastseg.contract import DType
from fastseg.export.onnx.blocks import (
    HALF,
    MOVING,
    SINGLE,
    block_of,
    initializer,
    is_float,
    must_be_single,
)

_TYPES: Mapping[DType, onnx_ir.DataType] = {"float32": SINGLE, "float16": HALF}


def to_half(
    model: onnx_ir.Model, *, islands: Collection[str], ports: Mapping[str, DType]
) -> onnx_ir.Model:
    """Rewrite a graph in float16, but for what must stay in float32.

    Args:
        model: As ``graph_blocks.read`` gives it; it is changed.
        islands: Blocks that stay in float32.
        ports: dtype of every floating input and output of the graph by name.

    Returns:
        ``model``.
    """
    rewrite = _Rewrite(model, islands)
    for value in model.graph.inputs:
        if is_float(value):
            value.type = onnx_ir.TensorType(_TYPES[ports[str(value.name)]])
    for node in list(model.graph):
        rewrite.settle(node)
    for index, value in enumerate(model.graph.outputs):
        wanted = _TYPES[ports[str(value.name)]]
        if is_float(value) and value.dtype != wanted:
            rewrite.cast_output(index, wanted)
    RemoveUnusedNodesPass()(model)
    return model


class _Rewrite:
    """Types of a graph as they are settled, node by node."""

    def __init__(self, model: onnx_ir.Model, islands: Collection[str]) -> None:
        self.model = model
        self.islands = islands
        self.single = must_be_single(model)
        self.casts: dict[tuple[onnx_ir.Value, onnx_ir.DataType], onnx_ir.Value] = {}

    def settle(self, node: onnx_ir.Node) -> None:
        """Give a node's floating inputs and outputs the type that it computes in."""
        if node.op_type in ("Cast", "Constant", "ConstantOfShape"):
            return
        floats = [value for value in node.inputs if value is not None and is_float(value)]
        if not floats:
            return
        wanted = self.type_of(node, floats[0])
        for index, value in enumerate(node.inputs):
            if value is not None and is_float(value) and value.dtype != wanted:
                node.replace_input_with(index, self.cast(value, wanted, node))
        for value in node.outputs:
            if is_float(value):
                value.type = onnx_ir.TensorType(wanted)

    def type_of(self, node: onnx_ir.Node, first: onnx_ir.Value) -> onnx_ir.DataType:
        """What a node computes in: what its block does, and whatever comes if it only passes on."""
        if node in self.single:
            return SINGLE
        in_half = block_of(node) not in self.islands
        if node.op_type in MOVING and first.dtype == HALF:
            return HALF
        if node.op_type == "LayerNormalization" and first.dtype == SINGLE and in_half:
            # Its statistics are float32 either way (stash_type 1); what comes in float32 need not
            # be rounded before.
            return SINGLE if first.const_value is None else HALF
        return HALF if in_half else SINGLE

    def cast(
        self, value: onnx_ir.Value, wanted: onnx_ir.DataType, before: onnx_ir.Node
    ) -> onnx_ir.Value:
        """``value`` in another type, the same one for all who ask."""
        key = (value, wanted)
        if key not in self.casts:
            name = f"{value.name}.{'half' if wanted == HALF else 'single'}"
            if value.const_value is not None:
                numpy_type = np.float16 if wanted == HALF else np.float32
                with np.errstate(over="ignore"):
                    weights = value.const_value.numpy().astype(numpy_type)
                self.casts[key] = initializer(self.model, name, weights)
            else:
                node = onnx_ir.node("Cast", [value], {"to": wanted}, name=f"{name}/Cast")
                node.outputs[0].name = name
                node.outputs[0].type = onnx_ir.TensorType(wanted)
                self.model.graph.insert_before(before, node)
                self.casts[key] = node.outputs[0]
        return self.casts[key]

    def cast_output(self, index: int, wanted: onnx_ir.DataType) -> None:
        """Let an output of the graph, which keeps its name and shape, have another type."""
        inner = self.model.graph.outputs[index]
        name, shape = inner.name, inner.shape
        node = onnx_ir.node("Cast", [inner], {"to": wanted}, name=f"{name}/Cast")
        outer = node.outputs[0]
        inner.name, inner.shape = f"{name}.inner", None
        outer.name, outer.type, outer.shape = name, onnx_ir.TensorType(wanted), shape
        self.model.graph.append(node)
        self.model.graph.outputs[index] = outer
