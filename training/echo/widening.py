"""Function-preserving widening: a network of twice the width that computes the same.

After Chen, Goodfellow, Shlens: Net2Net, ICLR 2016. Every channel is doubled, and the next
layer takes its two copies in random shares that sum to one, so that the copies diverge in training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastseg.export.networks.unet import UNet

FIRST, LAST = "down.0.0", "head"
"""The first and the last layer: the frame's channels in, the classes out."""


def widen(network: UNet, *, seed: int) -> UNet:
    """Build a network of twice the width that computes the same as ``network``."""
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            before, after = (0, 1) if isinstance(module, nn.ConvTranspose2d) else (1, 0)
            weight, bias = module.weight.detach(), module.bias
            assert bias is not None
            if name != FIRST:
                weight = _split_shares(weight, before, random)
            if name != LAST:
                weight = weight.repeat_interleave(2, dim=after)
                bias = bias.repeat_interleave(2)
            weights[f"{name}.weight"], weights[f"{name}.bias"] = weight, bias.detach()
    wide = UNet(network.channels, network.classes, 2 * network.width)
    wide.load_state_dict(weights)
    return wide


def _split_shares(weight: Tensor, axis: int, random: torch.Generator) -> Tensor:
    share = 0.2 + 0.6 * torch.rand(weight.shape, generator=random)
    pair = torch.stack([weight * share, weight * (1 - share)], dim=axis + 1)
    return pair.flatten(axis, axis + 1)
