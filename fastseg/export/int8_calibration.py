"""What 8-bit integers would do to each product of a graph, measured on pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir

from fastseg.contract import Array
from fastseg.export import graph_blocks
from fastseg.export.graph_blocks import SINGLE
from fastseg.export.int8_graph import Range, Stepped, products
from fastseg.export.measuring import MeasuringSession
from fastseg.export.onnx_writer import save

_SCALAR = onnx_ir.TensorType(SINGLE)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a product computes in, and why."""

    block: str
    """Its name in the float32 graph."""

    precision: str
    """``"int8"`` or ``"fp32"``."""

    reason: str
    """``"loss"``, or nothing for INT8."""

    nmse: float
    """Its own squared error in INT8, as ``losses`` gives it."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def ranges(path: Path, feeds: Sequence[Mapping[str, Array]]) -> dict[str, Range]:
    """What everything that becomes uint8 held, by name, over all feeds of a float32 graph."""
    model = graph_blocks.read(path)
    names = {}
    for node in products(model):
        value = node.inputs[0]
        if value is not None and value.name not in names:
            low, high = (_scalar(model, node, each, value) for each in ("ReduceMin", "ReduceMax"))
            names[str(value.name)] = low, high
    held: dict[str, Range] = {}
    for found in _runs(model, feeds):
        for name, (low, high) in names.items():
            seen = Range(float(found[low]), float(found[high]))
            held[name] = seen.joined(held.get(name, seen))
    return held


def losses(
    path: Path, feeds: Sequence[Mapping[str, Array]], held: Mapping[str, Range]
) -> dict[str, float]:
    """What INT8 would cost each product, by name.

    Every product is computed twice from the same float32 inputs, so that its error is its own.

    Returns:
        The squared error over the energy of what the product gives.
    """
    model = graph_blocks.read(path)
    stepped = Stepped(model, held)
    pairs = {str(node.name): _beside(stepped, node) for node in products(model)}
    error: dict[str, float] = defaultdict(float)
    energy: dict[str, float] = defaultdict(float)
    for found in _runs(model, feeds):
        for name, (gap, whole) in pairs.items():
            error[name] += float(found[gap])
            energy[name] += float(found[whole])
    return {name: error[name] / energy[name] if energy[name] > 0 else 0.0 for name in pairs}


def decide(lost: Mapping[str, float], most: float) -> tuple[Decision, ...]:
    """Leave in float32 what would lose more than ``most``."""
    return tuple(
        Decision(name, "fp32", "loss", nmse) if nmse > most else Decision(name, "int8", "", nmse)
        for name, nmse in lost.items()
    )


def _beside(stepped: Stepped, node: onnx_ir.Node) -> tuple[str, str]:
    """Outputs that hold the squared error of a product in INT8, and the energy of its result."""
    model, result = stepped.model, node.outputs[0]
    operands = [*stepped.operands(node), *node.inputs[2:]]
    twin = onnx_ir.Node(node.domain, node.op_type, operands, node.attributes.values())
    gap = onnx_ir.node("Sub", [twin.outputs[0], result])
    for each, suffix in ((twin, "twin"), (gap, "gap")):
        each.outputs[0].name, each.outputs[0].type = f"{result.name}.{suffix}", _SCALAR
    model.graph.insert_after(node, [twin, gap])
    return (
        _scalar(model, gap, "ReduceSumSquare", gap.outputs[0], after=True),
        _scalar(model, gap, "ReduceSumSquare", result, after=True),
    )


def _scalar(
    model: onnx_ir.Model,
    node: onnx_ir.Node,
    operator: str,
    value: onnx_ir.Value,
    *,
    after: bool = False,
) -> str:
    """An output of the graph that holds one number of a tensor, computed beside a node."""
    measuring = onnx_ir.node(operator, [value], {"keepdims": 0})
    result = measuring.outputs[0]
    result.name, result.shape = f"{value.name}.{operator}", onnx_ir.Shape(())
    result.type = _SCALAR
    if after:
        model.graph.insert_after(node, measuring)
    else:
        model.graph.insert_before(node, measuring)
    model.graph.outputs.append(result)
    return str(result.name)


def _runs(model: onnx_ir.Model, feeds: Sequence[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "measuring.onnx"
        save(model, path)
        session = MeasuringSession(path, threads=0)
        for feed in feeds:
            yield session.run(feed)
