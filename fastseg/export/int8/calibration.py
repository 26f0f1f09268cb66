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
from fastseg.export.int8.rewrite import Range, Stepped, products
from fastseg.export.onnx.blocks import SINGLE
from fastseg.export.onnx.measuring_session import MeasuringSession
from fastseg.export.onnx.writer import save

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


def ranges(source: onnx_ir.Model, feeds: Sequence[Mapping[str, Array]]) -> dict[str, Range]:
    """What everything that becomes uint8 held, by name, over all feeds.

    Args:
        source: A float32 graph as ``graph_blocks.read`` gives it; it stays as it is.
        feeds: Inputs of its runs.
    """
    model = source.clone()
    names = {}
    for node in products(model):
        value = node.inputs[0]
        if value is not None and value.name not in names:
            bounds = [_measured(each, value) for each in ("ReduceMin", "ReduceMax")]
            model.graph.insert_before(node, bounds)
            names[str(value.name)] = _put_out(model, bounds)
    held: dict[str, Range] = {}
    for found in _runs(model, feeds):
        for name, (low, high) in names.items():
            seen = Range(float(found[low]), float(found[high]))
            held[name] = seen.joined(held.get(name, seen))
    return held


def losses(
    source: onnx_ir.Model, feeds: Sequence[Mapping[str, Array]], held: Mapping[str, Range]
) -> dict[str, float]:
    """What INT8 would cost each product, by name.

    Every product is computed twice from the same float32 inputs, so that its error is its own.

    Args:
        source: As in ``ranges``.
        feeds: As in ``ranges``.
        held: What ``ranges`` gave.

    Returns:
        The squared error over the energy of what the product gives.
    """
    model = source.clone()
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
    found = [_measured("ReduceSumSquare", value) for value in (gap.outputs[0], result)]
    model.graph.insert_after(node, [twin, gap, *found])
    return _put_out(model, found)


def _measured(operator: str, value: onnx_ir.Value) -> onnx_ir.Node:
    """A node that makes one number of a tensor."""
    node = onnx_ir.node(operator, [value], {"keepdims": 0})
    result = node.outputs[0]
    result.name, result.shape = f"{value.name}.{operator}", onnx_ir.Shape(())
    result.type = _SCALAR
    return node


def _put_out(model: onnx_ir.Model, nodes: Sequence[onnx_ir.Node]) -> tuple[str, str]:
    """Make outputs of the graph of what two nodes give: their names."""
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
