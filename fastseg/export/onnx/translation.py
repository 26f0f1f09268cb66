"""Translation of a traced module into operators of ONNX."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir
import torch
from onnxscript import opset18 as operators

from fastseg import contract
from fastseg.contract import GraphSpec
from fastseg.export.onnx.enlarge import ENLARGE, enlarge_to_onnx
from fastseg.export.onnx.instance_norm import INSTANCE_NORM, instance_norm_to_onnx


def translate_trace(program: Any, graph: GraphSpec) -> onnx_ir.Model:
    """Translate a traced module, operator by operator.

    Args:
        program: What ``torch.export.export`` returned.
        graph: The names of inputs and outputs.

    Raises:
        torch.onnx.OnnxExporterError: An operator has no translation.
    """
    exported: Any = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=contract.OPSET,
        input_names=[tensor.name for tensor in graph.inputs],
        output_names=[tensor.name for tensor in graph.outputs],
        custom_translation_table={
            torch.ops.aten.gelu.default: _gelu,
            torch.ops.aten.to.dtype: _to_dtype,
            ENLARGE: enlarge_to_onnx,
            INSTANCE_NORM: instance_norm_to_onnx,
        },
        verbose=False,
        optimize=False,
    )
    model: onnx_ir.Model = exported.model
    return model


def _gelu(x: Any, approximate: str = "none") -> Any:
    """Compute either form of GELU in the order of operations that ONNX Runtime fuses."""
    if approximate == "tanh":
        cubed = operators.Mul(operators.Pow(x, 3.0), 0.044715)
        bend = operators.Tanh(operators.Mul(operators.Add(x, cubed), (2 / math.pi) ** 0.5))
        return operators.Mul(operators.Mul(x, 0.5), operators.Add(bend, 1.0))
    bell = operators.Add(operators.Erf(operators.Div(x, 2.0**0.5)), 1.0)
    return operators.Mul(operators.Mul(x, bell), 0.5)


def _to_dtype(x: Any, dtype: int, non_blocking: bool = False, copy: bool = False) -> Any:  # noqa: ARG001 - torch's signature
    """Convert to another type, which is a number of ONNX here."""
    return operators.Cast(x, to=dtype)
