"""Measurements of a graph on images: the ranges of tensors and the losses of INT8 products."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir

from fastseg.contract import Array
from fastseg.export.int8.rewrite import QuantisedGraph, ValueRange, products
from fastseg.export.onnx.blocks import FP32
from fastseg.export.onnx.measuring_session import MeasuringSession
from fastseg.export.onnx.writer import save

_SCALAR = onnx_ir.TensorType(FP32)


@dataclass(frozen=True, slots=True)
class ProductDecision:
    """The precision of a product, with its reason."""

    block: str
    """Its name in the float32 graph."""

    precision: str
    """``"int8"`` or ``"fp32"``."""

    reason: str
    """``"loss"``, or nothing for INT8."""

    nmse: float
    """Its own squared error in INT8, as ``measure_losses`` gives it."""

    def as_dict(self) -> dict[str, Any]:
        """Convert to JSON's types."""
        return asdict(self)


def measure_ranges(
    source: onnx_ir.Model, feeds: Sequence[Mapping[str, Array]]
) -> dict[str, ValueRange]:
    """Measure the range over all feeds of each tensor that becomes uint8, by name.

    Args:
        source: A float32 graph as ``read_graph`` gives it; it stays as it is.
        feeds: Inputs of its runs.
    """
    model = source.clone()
    names = {}
    for node in products(model):
        value = node.inputs[0]
        if value is not None and value.name not in names:
            bounds = [_measured(each, value) for each in ("ReduceMin", "ReduceMax")]
            model.graph.insert_before(node, bounds)
            names[str(value.name)] = _add_outputs(model, bounds)
    ranges: dict[str, ValueRange] = {}
    for found in _runs(model, feeds):
        for name, (low, high) in names.items():
            seen = ValueRange(float(found[low]), float(found[high]))
            ranges[name] = seen.union(ranges.get(name, seen))
    return ranges


def measure_losses(
    source: onnx_ir.Model, feeds: Sequence[Mapping[str, Array]], ranges: Mapping[str, ValueRange]
) -> dict[str, float]:
    """Measure the loss of each product in INT8, by name.

    Every product is computed twice from the same float32 inputs, so that its error is its own.

    Args:
        source: As in ``measure_ranges``.
        feeds: As in ``measure_ranges``.
        ranges: Those that ``measure_ranges`` returned.

    Returns:
        The squared error over the energy of the product's result.
    """
    model = source.clone()
    quantised = QuantisedGraph(model, ranges)
    pairs = {str(node.name): _beside(quantised, node) for node in products(model)}
    error: dict[str, float] = defaultdict(float)
    energy: dict[str, float] = defaultdict(float)
    for found in _runs(model, feeds):
        for name, (gap, whole) in pairs.items():
            error[name] += float(found[gap])
            energy[name] += float(found[whole])
    return {name: error[name] / energy[name] if energy[name] > 0 else 0.0 for name in pairs}


def decide(lost: Mapping[str, float], most: float) -> tuple[ProductDecision, ...]:
    """Choose INT8 for each product that loses at most ``most``, and float32 for the others."""
    return tuple(
        ProductDecision(name, "fp32", "loss", nmse)
        if nmse > most
        else ProductDecision(name, "int8", "", nmse)
        for name, nmse in lost.items()
    )


def _beside(quantised: QuantisedGraph, node: onnx_ir.Node) -> tuple[str, str]:
    """Add outputs with the squared error of a product in INT8 and the energy of its result."""
    model, result = quantised.model, node.outputs[0]
    operands = [*quantised.operands(node), *node.inputs[2:]]
    twin = onnx_ir.Node(node.domain, node.op_type, operands, node.attributes.values())
    gap = onnx_ir.node("Sub", [twin.outputs[0], result])
    for each, suffix in ((twin, "twin"), (gap, "gap")):
        each.outputs[0].name, each.outputs[0].type = f"{result.name}.{suffix}", _SCALAR
    found = [_measured("ReduceSumSquare", value) for value in (gap.outputs[0], result)]
    model.graph.insert_after(node, [twin, gap, *found])
    return _add_outputs(model, found)


def _measured(operator: str, value: onnx_ir.Value) -> onnx_ir.Node:
    """Build a node that reduces a tensor to one number."""
    node = onnx_ir.node(operator, [value], {"keepdims": 0})
    result = node.outputs[0]
    result.name, result.shape = f"{value.name}.{operator}", onnx_ir.Shape(())
    result.type = _SCALAR
    return node


def _add_outputs(model: onnx_ir.Model, nodes: Sequence[onnx_ir.Node]) -> tuple[str, str]:
    """Make outputs of the graph of the results of two nodes, and return their names."""
    first, second = (node.outputs[0] for node in nodes)
    model.graph.outputs.extend((first, second))
    return str(first.name), str(second.name)


def _runs(model: onnx_ir.Model, feeds: Sequence[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "measuring.onnx"
        save(model, path)
        session = MeasuringSession(path, threads=0)
        for feed in feeds:
            yield session.run(feed)
