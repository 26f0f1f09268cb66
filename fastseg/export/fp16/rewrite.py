"""A float32 graph rewritten in mixed precision, with every change of type an explicit cast.

The result is strongly typed: the graph fixes the type of each tensor, and a runtime needs no flag
and has no choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from fastseg.contract import DType
from fastseg.export.onnx.blocks import (
    FP16,
    FP32,
    MOVING,
    block_of,
    initializer,
    is_float,
    must_be_fp32,
)

_TYPES: Mapping[DType, onnx_ir.DataType] = {"float32": FP32, "float16": FP16}


def to_fp16(
    model: onnx_ir.Model, *, fp32_blocks: Collection[str], ports: Mapping[str, DType]
) -> onnx_ir.Model:
    """Rewrite a graph in float16, except for the nodes that must stay in float32.

    Args:
        model: As ``read_graph`` gives it; it is changed.
        fp32_blocks: Blocks that stay in float32.
        ports: dtype of every floating input and output of the graph by name.

    Returns:
        ``model``.
    """
    rewrite = _Rewrite(model, fp32_blocks)
    for value in model.graph.inputs:
        if is_float(value):
            value.type = onnx_ir.TensorType(_TYPES[ports[str(value.name)]])
    for node in list(model.graph):
        rewrite.assign_dtype(node)
    for index, value in enumerate(model.graph.outputs):
        wanted = _TYPES[ports[str(value.name)]]
        if is_float(value) and value.dtype != wanted:
            rewrite.cast_output(index, wanted)
    RemoveUnusedNodesPass()(model)
    return model


class _Rewrite:
    """A rewrite in progress, which assigns types node by node."""

    def __init__(self, model: onnx_ir.Model, fp32_blocks: Collection[str]) -> None:
        self.model = model
        self.fp32_blocks = fp32_blocks
        self.fp32_only = must_be_fp32(model)
        self.casts: dict[tuple[onnx_ir.Value, onnx_ir.DataType], onnx_ir.Value] = {}

    def assign_dtype(self, node: onnx_ir.Node) -> None:
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
        """Choose a node's type: its block's, or its input's if the node only moves numbers."""
        if node in self.fp32_only:
            return FP32
        in_fp16 = block_of(node) not in self.fp32_blocks
        if node.op_type in MOVING and first.dtype == FP16:
            return FP16
        if node.op_type == "LayerNormalization" and first.dtype == FP32 and in_fp16:
            # Its statistics are float32 either way (stash_type 1): a float32 input need not be
            # rounded before.
            return FP32 if first.const_value is None else FP16
        return FP16 if in_fp16 else FP32

    def cast(
        self, value: onnx_ir.Value, wanted: onnx_ir.DataType, before: onnx_ir.Node
    ) -> onnx_ir.Value:
        """Cast ``value`` to another type, once for all its readers."""
        key = (value, wanted)
        if key not in self.casts:
            name = f"{value.name}.{'half' if wanted == FP16 else 'single'}"
            if value.const_value is not None:
                numpy_type = np.float16 if wanted == FP16 else np.float32
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
        """Give an output of the graph another type; it keeps its name and shape."""
        inner = self.model.graph.outputs[index]
        name, shape = inner.name, inner.shape
        node = onnx_ir.node("Cast", [inner], {"to": wanted}, name=f"{name}/Cast")
        outer = node.outputs[0]
        inner.name, inner.shape = f"{name}.inner", None
        outer.name, outer.type, outer.shape = name, onnx_ir.TensorType(wanted), shape
        self.model.graph.append(node)
        self.model.graph.outputs[index] = outer
