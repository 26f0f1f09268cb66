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
