"""A bilinear resize to the size of another map, which a graph computes from that map."""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import opset18 as operators
from torch import Tensor
from torch.nn import functional


@torch.library.custom_op(
    "fastseg::enlarge", mutates_args=(), schema="(Tensor x, Tensor like) -> Tensor"
)
def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Resize a map bilinearly, corners on corners, to the height and width of another.

    It is an operator of its own, so that a graph traced at one size resizes at every other.

    Args:
        x: (batch, channels, h, w).
        like: (batch, ..., height, width).

    Returns:
        (batch, channels, height, width).
    """
    return functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


@enlarge.register_fake
def _traced(x: Tensor, like: Tensor) -> Tensor:
    """Return an empty tensor of the result's shape, for tracing."""
    return x.new_empty((*x.shape[:2], *like.shape[2:]))


ENLARGE = torch.ops.fastseg.enlarge.default
"""The operator as a trace holds it."""


def enlarge_to_onnx(x: Any, like: Any) -> Any:
    """Translate ``ENLARGE``: the size is read from the other tensor when the graph runs."""
    size = operators.Concat(
        operators.Shape(x, start=0, end=2), operators.Shape(like, start=2, end=4), axis=0
    )
    return operators.Resize(
        x,
        None,
        None,
        size,
        coordinate_transformation_mode="align_corners",
        mode="linear",
    )
