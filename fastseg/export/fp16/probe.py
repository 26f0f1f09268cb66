"""A graph with outputs that measure the range of each block and its error in float16.

Every block is computed twice, once in float32 and once with its numbers rounded to float16, both
from the same float32 inputs. So the error of a block is its own, and not that of those before it.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir

from fastseg.contract import TensorSpec
from fastseg.export.fp16.rounding import rounding
from fastseg.export.onnx.blocks import (
    FP32,
    MOVING,
    block_of,
    initializer,
    is_float,
    must_be_fp32,
)

_SCALAR = onnx_ir.TensorType(FP32)


class Probe:
    """A graph with additional outputs that measure its blocks.

    Args:
        model: As ``read_graph`` gives it; it is changed and becomes the measuring graph.
    """

    def __init__(self, model: onnx_ir.Model) -> None:
        self.model = model
        counting = [node for node in model.graph if _counts(node)]
        self.blocks = tuple(
            dict.fromkeys(block_of(node) for node in counting if node.op_type not in MOVING)
        )
        """Blocks that compute with floats, in the order in which they run."""
        others = {
            block_of(node) for node in counting if node.op_type not in MOVING | frozenset(("Add",))
        }
        self.sums = frozenset(self.blocks) - others
        """Blocks that only add."""
        self.weights: dict[str, float] = defaultdict(float)
        """Largest absolute weight of each block."""
        self.ranges: dict[str, tuple[str, ...]] = defaultdict(tuple)
        """For each block, outputs that hold the largest and smallest number of one tensor each."""
        self.errors: dict[str, tuple[tuple[str, str], ...]] = defaultdict(tuple)
        """For each block, pairs of outputs: squared error and energy of what leaves it."""
        self._fp32_only = must_be_fp32(model)
        self._twins: dict[str, dict[onnx_ir.Value, onnx_ir.Value]] = defaultdict(dict)
        self._rounded: dict[onnx_ir.Value, onnx_ir.Value] = {}
        self._extent: dict[onnx_ir.Value, tuple[str, str]] = {}
        self._outputs: list[onnx_ir.Value] = []
        self._leaving = frozenset(
            value for node in counting for value in node.outputs if _leaves(value, block_of(node))
        )
        for node in counting:
            self._follow(node)
        model.graph.outputs.extend(self._outputs)

    @property
    def scalars(self) -> tuple[TensorSpec, ...]:
        """The additional outputs."""
        return tuple(TensorSpec(str(value.name), "float32", ()) for value in self._outputs)

    def _follow(self, node: onnx_ir.Node) -> None:
        """Add the rounded twin of a node, and the measurements of both."""
        block, fp32_only = block_of(node), node in self._fp32_only
        twins, added = self._twins[block], _Added(self.model, node)
        inputs = []
        for index, value in enumerate(node.inputs):
            if value is None or not is_float(value):
                inputs.append(value)
                continue
            # A layer norm takes what comes in float32 as it is.
            plain = fp32_only or (node.op_type == "LayerNormalization" and index == 0)
            twin = twins.get(value, value)
            inputs.append(twin if plain else self._round(twin, added))
            if not plain:
                self._note_range(block, value, added)
        twin_node = onnx_ir.Node(
            node.domain,
            node.op_type,
            inputs,
            node.attributes.values(),
            num_outputs=len(node.outputs),
        )
        added.append(twin_node)
        for value, twin in zip(node.outputs, twin_node.outputs, strict=True):
            twin.name, twin.type = f"{value.name}.twin", value.type
            if not is_float(value):
                continue
            if fp32_only:
                twins[value] = twin
            elif node.op_type in MOVING:
                twins[value] = self._rounded[twin] = twin
            else:
                twins[value] = self._round(twin, added)
                self._note_range(block, value, added)
            if value in self._leaving:
                self._note_error(block, value, twins[value], added)

    def _round(self, value: onnx_ir.Value, added: _Added) -> onnx_ir.Value:
        if value not in self._rounded:
            if value.const_value is not None:
                with np.errstate(over="ignore"):
                    rounded_weights = value.const_value.numpy().astype(np.float16)
                stored = initializer(self.model, f"{value.name}.stored", rounded_weights)
                node = onnx_ir.node("Cast", [stored], {"to": FP32})
                node.outputs[0].name, node.outputs[0].type = f"{value.name}.rounded", _SCALAR
                added.append(node)
                self._rounded[value] = node.outputs[0]
            else:
                casts, rounded = rounding(value)
                added.extend(casts)
                self._rounded[value] = rounded
            self._rounded[self._rounded[value]] = self._rounded[value]
        return self._rounded[value]

    def _note_range(self, block: str, value: onnx_ir.Value, added: _Added) -> None:
        if value.const_value is not None:
            largest = float(np.abs(value.const_value.numpy()).max(initial=0.0))
            self.weights[block] = max(self.weights[block], largest)
            return
        if value not in self._extent:
            self._extent[value] = (
                self._scalar("ReduceMax", value, f"{value.name}.max", added),
                self._scalar("ReduceMin", value, f"{value.name}.min", added),
            )
        self.ranges[block] = (*self.ranges[block], *self._extent[value])

    def _note_error(
        self, block: str, value: onnx_ir.Value, twin: onnx_ir.Value, added: _Added
    ) -> None:
        gap = onnx_ir.node("Sub", [twin, value])
        gap.outputs[0].name, gap.outputs[0].type = f"{value.name}.gap", _SCALAR
        added.append(gap)
        pair = (
            self._scalar("ReduceSumSquare", gap.outputs[0], f"{value.name}.error", added),
            self._scalar("ReduceSumSquare", value, f"{value.name}.energy", added),
        )
        self.errors[block] = (*self.errors[block], pair)

    def _scalar(self, operator: str, value: onnx_ir.Value, name: str, added: _Added) -> str:
        node = onnx_ir.node(operator, [value], {"keepdims": 0})
        result = node.outputs[0]
        result.name, result.type, result.shape = name, _SCALAR, onnx_ir.Shape(())
        added.append(node)
        self._outputs.append(result)
        return name


class _Added:
    """Nodes that are inserted behind a node, in the order of their insertion."""

    def __init__(self, model: onnx_ir.Model, node: onnx_ir.Node) -> None:
        self._graph, self._last = model.graph, node

    def append(self, node: onnx_ir.Node) -> None:
        self._graph.insert_after(self._last, [node])
        self._last = node

    def extend(self, nodes: list[onnx_ir.Node]) -> None:
        for node in nodes:
            self.append(node)


def _counts(node: onnx_ir.Node) -> bool:
    """Tell whether a node computes floats from floats."""
    if node.op_type in ("Cast", "Constant", "ConstantOfShape"):
        return False
    return any(map(is_float, node.inputs)) and any(map(is_float, node.outputs))


def _leaves(value: onnx_ir.Value, block: str) -> bool:
    """Tell whether a value is read outside its block."""
    return value.is_graph_output() or any(block_of(node) != block for node in value.consumers())
