"""Depthwise convolutions with a fast weight gradient: torch's takes most of an encoder's step."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.sam_nano.devices import autocast_disabled


@functools.cache
def compiled() -> Any:
    """Build the native kernel once, in torch's cache; None without a C++ compiler."""
    if shutil.which("c++") is None or shutil.which("ninja") is None:
        return None
    from torch.utils.cpp_extension import load

    source = Path(__file__).with_suffix(".cpp")
    return load("sam_nano_depthwise", [str(source)], extra_cflags=["-O3", "-march=native"])


class Depthwise(torch.autograd.Function):
    """A convolution, channels last and float32, with the native gradient of its weights."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x (B, C, h, w) with weights (C, 1, k, k), padded to the same size."""
        context.save_for_backward(x, weight)
        context.biased = bias is not None
        kernel, channels = weight.shape[-1], weight.shape[0]
        return functional.conv2d(x, weight, bias, padding=kernel // 2, groups=channels)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the gradients of input, weights and bias."""
        x, weight = context.saved_tensors
        kernel, channels = weight.shape[-1], weight.shape[0]
        last = gradients[0].contiguous(memory_format=torch.channels_last)
        # Backwards through a symmetric padding is the convolution with the rotated kernel.
        rotated = weight.flip(2, 3)
        back = functional.conv2d(last, rotated, padding=kernel // 2, groups=channels)
        edge = kernel // 2
        rows = functional.pad(x.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge))
        taps = compiled().weight_gradient(
            rows.contiguous(), last.permute(0, 2, 3, 1).contiguous(), kernel
        )
        level = last.sum(dim=(0, 2, 3)) if context.biased else None
        return back, taps.permute(2, 0, 1)[:, None].contiguous(), level


def depthwise_in_float32(network: nn.Module) -> None:
    """Keep depthwise convolutions in float32: their bfloat16 gradient is four times as slow.

    Where a C++ compiler is found, the gradient of their weights is a native kernel. A batch
    normalisation that uses its running statistics is multiplied into the convolution before it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = functools.partial(_in_float32, module)
        if isinstance(module, nn.Sequential) and isinstance(module[-1], nn.BatchNorm2d):
            module.forward = functools.partial(_convolve_normalised, module)


def _convolve_normalised(pair: nn.Sequential, x: Tensor) -> Tensor:
    """Run a convolution and its normalisation, as one convolution where statistics are frozen."""
    convolution, norm = pair
    if norm.training:
        together: Tensor = norm(convolution(x))
        return together
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = convolution.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    if convolution.groups > 1:
        return _in_float32(convolution, x, weight, bias)
    return functional.conv2d(x, weight, bias, convolution.stride, convolution.padding)


def _in_float32(
    convolution: nn.Conv2d, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    with autocast_disabled(x.device):
        weight = convolution.weight if weight is None else weight
        channels, padding = convolution.groups, convolution.padding
        if channels % 16 == 0 and torch.is_grad_enabled() and compiled():
            result: Tensor = Depthwise.apply(x.float(), weight, bias)
            return result
        return functional.conv2d(x.float(), weight, bias, padding=padding, groups=channels)
