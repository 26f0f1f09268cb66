"""ONNX files from graphs written by hand in ONNX's own text form; needs ``onnx``."""

from __future__ import annotations

from collections.abc import Mapping

from fastseg.contract import IR_VERSION, OPSET, Array, GraphSpec, TensorSpec


def compile_graph(graph: GraphSpec, body: str, constants: Mapping[str, Array]) -> bytes:
    """Make an ONNX file, the same bytes each time.

    Args:
        graph: Its inputs and outputs.
        body: Its nodes.
        constants: Arrays that the nodes may use by name; unused ones are left out.
    """
    import onnx
    from onnx import numpy_helper, parser

    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>'
    takes, gives = (", ".join(map(_declare, part)) for part in (graph.inputs, graph.outputs))
    model = parser.parse_model(f"{header} {graph.name} ({takes}) => ({gives}) {{{body}}}")
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & set(constants)):
        model.graph.initializer.append(numpy_helper.from_array(constants[name], name))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _declare(tensor: TensorSpec) -> str:
    kind = {"float32": "float", "float16": "float16", "int32": "int32"}[tensor.dtype]
    return f"{kind}[{', '.join(map(str, tensor.shape))}] {tensor.name}"
