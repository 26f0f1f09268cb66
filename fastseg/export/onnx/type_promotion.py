"""Search for operators whose operands torch converts to a common type before it computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

_OF_SEVERAL_TYPES = frozenset(
    (
        torch.ops.aten.to.dtype,
        torch.ops.aten.index.Tensor,
        torch.ops.aten.embedding.default,
    )
)
"""Operators that convert nothing, although their operands and results differ in type."""


def may_promote(traced: fx.GraphModule) -> bool:
    """Tell whether an operator of a traced graph may convert its operands.

    It may do so where they are of several types, whole numbers with a real result, or sizes of the
    run. What is not known for certain counts as a conversion.
    """
    return any(
        _mixes(node)
        for node in traced.graph.nodes
        if node.op == "call_function" and node.target not in _OF_SEVERAL_TYPES
    )


def _mixes(node: fx.Node) -> bool:
    operands = [value for one in node.all_input_nodes for value in _values(one)]
    types = {value.dtype for value in operands if isinstance(value, Tensor)}
    if getattr(node.target, "overloadpacket", None) is torch.ops.aten.where:
        types.discard(torch.bool)  # of the condition
    pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
    if len(types) > 1 or (pointwise and types and not all(map(_is_tensor, operands))):
        return True
    if any(one.is_floating_point for one in types):
        return False
    results = {value.dtype for value in _values(node) if isinstance(value, Tensor)}
    real = any(isinstance(value, float) for value in node.args)
    return bool(types) and (real or not results <= types | {torch.bool})


def _values(node: fx.Node) -> Iterator[Any]:
    """Yield what a node was traced to give: tensors without values, sizes or plain numbers."""
    found = node.meta.get("val")
    yield from found if isinstance(found, (tuple, list)) else (found,)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
