"""The modules that a traced node lies in, as torch's exporter notes them."""

from __future__ import annotations

import ast

import onnx_ir

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata key under which torch notes the paths of modules, the outermost first, then a name of
the operator's own."""


def scopes(node: onnx_ir.Node) -> list[str]:
    """Return the paths of the modules around a node, the outermost first: ``"blocks.0.mlp"``."""
    found: list[str] = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    return found[:-1]


def moved(node: onnx_ir.Node, scope: str, to: str) -> dict[str, str]:
    """Return the metadata of a node with the path of a module around it changed."""
    paths = [
        f"{to}{path[len(scope) :]}" if f"{path}.".startswith(f"{scope}.") else path
        for path in (*scopes(node), "")
    ]
    return {**node.metadata_props, _SCOPES: repr(paths)}
