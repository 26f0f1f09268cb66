"""Rounding of weights to float16, which a model folder then holds in half the space."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LARGE = 4096
"""Smallest number of elements of a weight that is stored in float16."""


def prepare(module: nn.Module) -> None:
    """Fold batch norms into their convolutions, then round the large weights; all in place.

    Afterwards the module, which computes in float32, has exactly the weights of the smaller folder.

    Args:
        module: In evaluation mode. Parameters with at least ``LARGE`` elements are rounded to the
            nearest float16; a relative error of 5e-4 at most.
    """
    for sequence in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for (name, layer), (next_name, norm) in pairwise(list(sequence.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                # An export would fold them too, and its weights would not be those of float16.
                setattr(sequence, name, fuse_conv_bn_eval(layer, norm))
                setattr(sequence, next_name, nn.Identity())
    with torch.no_grad():
        for weight in module.parameters():
            if weight.numel() >= LARGE:
                weight.copy_(weight.half().float())
