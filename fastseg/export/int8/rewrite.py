"""Quantisation of a float32 graph: its large products become products of 8-bit integers.

Weights are int8 with one scale for each output channel. Inputs are uint8 over their measured range,
with one scale and zero point a tensor. Both are written as ``QuantizeLinear`` and
``DequantizeLinear`` around the product, which runtimes run as one integer product with 32-bit sums
(Jacob et al. 2018, arXiv 1712.05877). Everything else stays float32: norms, softmaxes, and the
products of attention, whose operands are both computed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from fastseg.export.onnx.blocks import FP32, initializer

LARGEST_WEIGHT = 127
"""Weights are symmetric about zero, so -128 is not used."""

STEPS = 255
"""Steps of an input's range."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The smallest and the largest number of a tensor."""

    low: float
    high: float

    def union(self, other: ValueRange) -> ValueRange:
        """Return the smallest range that holds both."""
        return ValueRange(min(self.low, other.low), max(self.high, other.high))

    @property
    def scale(self) -> np.float32:
        """The size of one step. Zero is always a step, so that padding is exact."""
        width = max(self.high, 0.0) - min(self.low, 0.0)
        return np.float32(max(width, float(np.finfo(np.float32).tiny) * STEPS) / STEPS)

    @property
    def zero_point(self) -> np.uint8:
        """The step that is zero."""
        return np.uint8(np.clip(round(-min(self.low, 0.0) / float(self.scale)), 0, STEPS))


def products(model: onnx_ir.Model) -> list[onnx_ir.Node]:
    """List the nodes that become integer products: matrices and convolutions with fixed weights."""
    return [node for node in model.graph if _output_axis(node) is not None]


class QuantisedGraph:
    """A graph that is being quantised, with the quantised operands that it has so far.

    Args:
        model: As ``read_graph`` gives it; it is changed in place.
        ranges: For each input of ``products``, by name, its range.
    """

    def __init__(self, model: onnx_ir.Model, ranges: Mapping[str, ValueRange]) -> None:
        self.model = model
        self._ranges = ranges
        self._inputs: dict[onnx_ir.Value, onnx_ir.Value] = {}
        self._weights: dict[tuple[onnx_ir.Value, int], onnx_ir.Value] = {}

    def operands(self, node: onnx_ir.Node) -> tuple[onnx_ir.Value, onnx_ir.Value]:
        """Return the INT8 operands of one of ``products``, which are added to the graph."""
        axis = _output_axis(node)
        value, weight = node.inputs[:2]
        if value is None or weight is None or axis is None:
            raise TypeError(f"{node.name} is no product of an input with weights")
        if value not in self._inputs:
            held = self._ranges[str(value.name)]
            self._inputs[value] = _quantise_input(self.model, node, value, held)
        if (weight, axis) not in self._weights:
            self._weights[weight, axis] = _quantise_weight(self.model, node, weight, axis)
        return self._inputs[value], self._weights[weight, axis]

    def drop_unused(self) -> None:
        """Remove float32 weights that no product reads any more."""
        for weight, _ in self._weights:
            if not weight.uses() and weight.name in self.model.graph.initializers:
                del self.model.graph.initializers[str(weight.name)]


def to_int8(
    model: onnx_ir.Model, ranges: Mapping[str, ValueRange], *, kept: Collection[str] = ()
) -> onnx_ir.Model:
    """Quantise the products of a graph in place.

    Args:
        model: As ``read_graph`` gives it.
        ranges: For each input of ``products``, by name, its range.
        kept: Names of products that stay in float32.
    """
    quantised = QuantisedGraph(model, ranges)
    for node in products(model):
        if node.name not in kept:
            for index, value in enumerate(quantised.operands(node)):
                node.replace_input_with(index, value)
    quantised.drop_unused()
    return model


def _output_axis(node: onnx_ir.Node) -> int | None:
    """Find the axis of the weights for the output channels; None if the node is no such product."""
    if node.op_type not in ("MatMul", "Conv"):
        return None
    value, weight = node.inputs[:2]
    if value is None or weight is None or value.const_value is not None:
        return None
    if weight.const_value is None or weight.dtype != FP32:
        return None
    if node.op_type == "Conv":
        return 0
    # A table of relative positions is no matrix of weights: it has an axis for positions.
    return 1 if weight.const_value.numpy().ndim == 2 else None


def _quantise_input(
    model: onnx_ir.Model, node: onnx_ir.Node, value: onnx_ir.Value, held: ValueRange
) -> onnx_ir.Value:
    """Quantise an input and convert it back, as the product's operand in place of ``value``."""
    name = str(value.name)
    scale = initializer(model, f"{name}.scale", np.array(held.scale))
    zero = initializer(model, f"{name}.zero_point", np.array(held.zero_point))
    rounded = onnx_ir.node("QuantizeLinear", [value, scale, zero])
    again = onnx_ir.node("DequantizeLinear", [rounded.outputs[0], scale, zero])
    for each, suffix, dtype in (
        (rounded, "uint8", onnx_ir.DataType.UINT8),
        (again, "stepped", FP32),
    ):
        each.name = f"{node.name}.{suffix}"
        each.outputs[0].name, each.outputs[0].type = f"{name}.{suffix}", onnx_ir.TensorType(dtype)
    model.graph.insert_before(node, [rounded, again])
    return again.outputs[0]


def _quantise_weight(
    model: onnx_ir.Model, node: onnx_ir.Node, weight: onnx_ir.Value, axis: int
) -> onnx_ir.Value:
    """Quantise the weights and convert them back, as the node's operand."""
    if weight.const_value is None:
        raise TypeError(f"{node.name} has no weights")
    array, name = weight.const_value.numpy(), f"{weight.name}.axis{axis}"
    others = tuple(each for each in range(array.ndim) if each != axis)
    largest = np.abs(array).max(axis=others, keepdims=True)
    scales = np.maximum(largest / LARGEST_WEIGHT, np.finfo(np.float32).tiny).astype(np.float32)
    steps = np.rint(array / scales).clip(-LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8)
    parts = (
        initializer(model, f"{name}.int8", steps),
        initializer(model, f"{name}.scales", scales.reshape(-1)),
        initializer(model, f"{name}.zero_points", np.zeros(scales.size, np.int8)),
    )
    again = onnx_ir.node("DequantizeLinear", parts, {"axis": axis})
    again.name = f"{node.name}.weights"
    again.outputs[0].name = f"{name}.weights"
    again.outputs[0].type = onnx_ir.TensorType(FP32)
    model.graph.insert_before(node, again)
    return again.outputs[0]
