"""An instance norm whose graph holds no size of its input."""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import opset18 as operators
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5
"""Added to the variance, as in PyTorch."""


@torch.library.custom_op(
    "fastseg::instance_norm",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor bias) -> Tensor",
)
def instance_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise each channel of each image by its mean and deviation.

    It is an operator of its own, because a trace of PyTorch's folds the batch into the channels.

    Args:
        x: (batch, channels, h, w).
        weight: (channels,).
        bias: (channels,).

    Returns:
        A tensor like ``x``.
    """
    return functional.instance_norm(x, weight=weight, bias=bias, eps=EPSILON)


@instance_norm.register_fake
def _traced(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 - the signature
    """Return an empty tensor of the result's shape, for tracing."""
    return torch.empty_like(x)


INSTANCE_NORM = torch.ops.fastseg.instance_norm.default
"""The operator as a trace holds it."""


def instance_norm_to_onnx(x: Any, weight: Any, bias: Any) -> Any:
    """Translate ``INSTANCE_NORM``."""
    return operators.InstanceNormalization(x, weight, bias, epsilon=EPSILON)
