"""Weights that float16 holds without loss, so that a model folder takes half the space."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LARGE = 4096
"""Elements from which on a weight is worth storing in half the bytes."""


def prepare(module: nn.Module) -> None:
    """Fold batch norms into their convolutions, then round the large weights; all in place.

    Afterwards the module, computing in float32, is exactly what the smaller folder holds.

    Args:
        module: In evaluation mode. Parameters with at least ``LARGE`` elements are rounded to the
            nearest float16; a relative error of 5e-4 at most.
    """
    for sequence in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for (name, layer), (next_name, norm) in pairwise(list(sequence.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                # An export would fold them too, and the rounded weights would not be round again.
                setattr(sequence, name, fuse_conv_bn_eval(layer, norm))
                setattr(sequence, next_name, nn.Identity())
    with torch.no_grad():
        for weight in module.parameters():
            if weight.numel() >= LARGE:
                weight.copy_(weight.half().float())
