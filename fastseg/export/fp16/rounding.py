"""A mixed-precision graph as float32 arithmetic with every rounding to float16 spelled out.

ONNX Runtime has few float16 kernels for CPUs: it computes in float32 and, between two operators,
leaves the rounding out, so that a tensor that overflows in float16 passes there unseen. Here each
float16 tensor is rounded by a pair of casts, which the runtime must keep. Sums inside an operator
stay in float32, as matrix units keep them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir

from fastseg.export.onnx.blocks import HALF, MOVING, SINGLE, initializer, rename

_SINGLE_TYPE = onnx_ir.TensorType(SINGLE)


def spell_out(model: onnx_ir.Model) -> onnx_ir.Model:
    """Rewrite a graph of ``half_graph.to_half`` so that a CPU answers as a GPU would.

    Inputs and outputs stay as they are.

    Args:
        model: It is changed.

    Returns:
        ``model``.
    """
    for value in list(model.graph.initializers.values()):
        if value.dtype == HALF and value.const_value is not None:
            whole = value.const_value.numpy().astype(np.float32)
            wider = initializer(model, f"{value.name}.wide", whole)
            name = str(value.name)
            value.replace_all_uses_with(wider)
            del model.graph.initializers[name]
            rename(model, wider, name)
    nodes = list(model.graph)
    halves = {value for node in nodes for value in node.outputs if value.dtype == HALF}
    halves |= {value for value in model.graph.inputs if value.dtype == HALF}
    for value in model.graph.inputs:
        if value in halves:
            _feed_in_single(model, value, nodes[0])
    for node in nodes:
        _round_outputs(model, node, halves)
    return model


def rounding(value: onnx_ir.Value) -> tuple[list[onnx_ir.Node], onnx_ir.Value]:
    """The two casts that round a float32 value to float16, and what they give."""
    down = onnx_ir.node("Cast", [value], {"to": HALF})
    up = onnx_ir.node("Cast", [down.outputs[0]], {"to": SINGLE})
    down.outputs[0].name, up.outputs[0].name = f"{value.name}.down", f"{value.name}.rounded"
    down.outputs[0].type, up.outputs[0].type = onnx_ir.TensorType(HALF), _SINGLE_TYPE
    return [down, up], up.outputs[0]


def _feed_in_single(model: onnx_ir.Model, value: onnx_ir.Value, first: onnx_ir.Node) -> None:
    """Cast an input of the graph once, for all who read it."""
    up = onnx_ir.node("Cast", [value], {"to": SINGLE})
    up.outputs[0].name, up.outputs[0].type = f"{value.name}.wide", _SINGLE_TYPE
    value.replace_all_uses_with(up.outputs[0])
    up.replace_input_with(0, value)
    model.graph.insert_before(first, up)


def _round_outputs(model: onnx_ir.Model, node: onnx_ir.Node, halves: set[onnx_ir.Value]) -> None:
    """Let a node give float32, rounded if it gave float16."""
    for value in node.outputs:
        if value not in halves:
            continue
        if value.is_graph_output():
            # What leaves the graph in float16 is rounded by that.
            _cast_back(model, node, value)
            continue
        value.type = _SINGLE_TYPE
        if node.op_type == "Cast":
            node.attributes["to"] = onnx_ir.AttrInt64("to", int(SINGLE))
        if node.op_type in MOVING:
            continue
        casts, rounded = rounding(value)
        value.replace_all_uses_with(rounded)
        casts[0].replace_input_with(0, value)
        model.graph.insert_after(node, casts)


def _cast_back(model: onnx_ir.Model, node: onnx_ir.Node, value: onnx_ir.Value) -> None:
    """Compute a float16 output of the graph in float32, and cast it at the end."""
    index = next(i for i, one in enumerate(model.graph.outputs) if one is value)
    name, shape = str(value.name), value.shape
    value.name, value.shape, value.type = f"{name}.exact", None, _SINGLE_TYPE
    if node.op_type == "Cast":
        node.attributes["to"] = onnx_ir.AttrInt64("to", int(SINGLE))
    casts, rounded = rounding(value)
    last = onnx_ir.node("Cast", [rounded], {"to": HALF})
    outer = last.outputs[0]
    outer.name, outer.shape, outer.type = name, shape, onnx_ir.TensorType(HALF)
    model.graph.outputs[index] = outer
    value.replace_all_uses_with(rounded)
    casts[0].replace_input_with(0, value)
    model.graph.insert_after(node, casts)
    model.graph.append(last)
