"""Random weights with which every term of a network counts."""

from __future__ import annotations

import torch


def scattered(module: torch.nn.Module, *, seed: int = 0) -> torch.nn.Module:
    """Move every weight away from its start, which is zero or one for many; freeze them.

    The same for means and variances of batch normalisation.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=random))
        for name, statistic in module.named_buffers():
            if name.endswith("running_mean"):
                statistic.add_(0.1 * torch.randn(statistic.shape, generator=random))
            elif name.endswith("running_var"):
                statistic.mul_(0.5 + torch.rand(statistic.shape, generator=random))
    return module.eval().requires_grad_(False)


def batch_norm_statistics(module: torch.nn.Module, *, seed: int = 1) -> torch.nn.Module:
    """Give every batch norm a mean and a variance that are not those of its start."""
    random = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.copy_(0.1 * torch.randn(part.running_mean.shape, generator=random))
            part.running_var.copy_(1 + torch.rand(part.running_var.shape, generator=random))
    return module
