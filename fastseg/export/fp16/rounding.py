"""A mixed-precision graph as float32 arithmetic with every rounding to float16 spelled out.

ONNX Runtime has few float16 kernels for CPUs: it computes in float32 and leaves out the rounding
between two operators, so that an overflow in float16 stays unnoticed. Here a pair of casts, which
the runtime must keep, rounds each float16 tensor. Sums inside an operator stay in float32, as in
matrix units.
"""

from __future__ import annotations

import numpy as np
import onnx_ir

from fastseg.export.onnx.blocks import FP16, FP32, MOVING, initializer, rename

_FP32_TYPE = onnx_ir.TensorType(FP32)


def spell_out(model: onnx_ir.Model) -> onnx_ir.Model:
    """Rewrite a graph of ``to_fp16`` so that a CPU answers as a GPU would.

    Inputs and outputs stay as they are.

    Args:
        model: It is changed.

    Returns:
        ``model``.
    """
    for value in list(model.graph.initializers.values()):
        if value.dtype == FP16 and value.const_value is not None:
            whole = value.const_value.numpy().astype(np.float32)
            wider = initializer(model, f"{value.name}.wide", whole)
            name = str(value.name)
            value.replace_all_uses_with(wider)
            del model.graph.initializers[name]
            rename(model, wider, name)
    nodes = list(model.graph)
    fp16_values = {value for node in nodes for value in node.outputs if value.dtype == FP16}
    fp16_values |= {value for value in model.graph.inputs if value.dtype == FP16}
    for value in model.graph.inputs:
        if value in fp16_values:
            _feed_in_fp32(model, value, nodes[0])
    for node in nodes:
        _round_outputs(model, node, fp16_values)
    return model


def rounding(value: onnx_ir.Value) -> tuple[list[onnx_ir.Node], onnx_ir.Value]:
    """Build the two casts that round a float32 value to float16; return them and their result."""
    down = onnx_ir.node("Cast", [value], {"to": FP16})
    up = onnx_ir.node("Cast", [down.outputs[0]], {"to": FP32})
    down.outputs[0].name, up.outputs[0].name = f"{value.name}.down", f"{value.name}.rounded"
    down.outputs[0].type, up.outputs[0].type = onnx_ir.TensorType(FP16), _FP32_TYPE
    return [down, up], up.outputs[0]


def _feed_in_fp32(model: onnx_ir.Model, value: onnx_ir.Value, first: onnx_ir.Node) -> None:
    """Cast an input of the graph once, for all its readers."""
    up = onnx_ir.node("Cast", [value], {"to": FP32})
    up.outputs[0].name, up.outputs[0].type = f"{value.name}.wide", _FP32_TYPE
    value.replace_all_uses_with(up.outputs[0])
    up.replace_input_with(0, value)
    model.graph.insert_before(first, up)


def _round_outputs(
    model: onnx_ir.Model, node: onnx_ir.Node, fp16_values: set[onnx_ir.Value]
) -> None:
    """Make the outputs of a node float32, rounded where they were float16."""
    for value in node.outputs:
        if value not in fp16_values:
            continue
        if value.is_graph_output():
            # The cast to the float16 output rounds it.
            _cast_back(model, node, value)
            continue
        value.type = _FP32_TYPE
        if node.op_type == "Cast":
            node.attributes["to"] = onnx_ir.AttrInt64("to", int(FP32))
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
    value.name, value.shape, value.type = f"{name}.exact", None, _FP32_TYPE
    if node.op_type == "Cast":
        node.attributes["to"] = onnx_ir.AttrInt64("to", int(FP32))
    casts, rounded = rounding(value)
    last = onnx_ir.node("Cast", [rounded], {"to": FP16})
    outer = last.outputs[0]
    outer.name, outer.shape, outer.type = name, shape, onnx_ir.TensorType(FP16)
    model.graph.outputs[index] = outer
    value.replace_all_uses_with(rounded)
    casts[0].replace_input_with(0, value)
    model.graph.insert_after(node, casts)
    model.graph.append(last)
