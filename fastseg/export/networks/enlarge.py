"""A bilinear resize to the size of another map, which a graph computes from that map."""

from __future__ import annotations

import torch
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
