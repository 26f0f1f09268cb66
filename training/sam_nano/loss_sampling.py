"""Sampling of the mask loss: at the object's edge, and at a sample of everything else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from training.sam_nano.training_decoder import patchify

SHARE = 0.3
"""Share of a prompt's image tokens at which its mask is computed."""

EDGE_SHARE = 0.6
"""Greatest share of them at the object's edge."""


class LossSample(NamedTuple):
    """K image tokens for each of N prompts, and the tokens that each of them represents."""

    indices: Tensor
    """int64 (N, K)."""
    weights: Tensor
    """float32 (N, K): sums over the sample with these weights estimate sums over the image."""


def sample_tokens(targets: Tensor, random: torch.Generator) -> LossSample:
    """Sample tokens for targets (N, h, w): shares of mask pixels that objects cover."""
    shares = patchify(targets)
    low, high = shares.amin(dim=2), shares.amax(dim=2)
    grid = round(shares.shape[1] ** 0.5)
    mixed = ((high > 0) & (low < 1)).float().reshape(-1, 1, grid, grid)
    edges = functional.max_pool2d(mixed, 3, stride=1, padding=1).flatten(1) > 0
    tokens = shares.shape[1]
    count = max(1, round(SHARE * tokens))
    near = edges.sum(dim=1, keepdim=True)
    wanted = torch.maximum(near.clamp(max=round(EDGE_SHARE * count)), count - (tokens - near))
    draws = torch.rand(edges.shape, generator=random).to(edges.device)
    # Tokens at the edge in random order, then the others: and the other way round.
    first, second = ((draws + group).argsort(dim=1)[:, :count] for group in (~edges, edges))
    order = torch.arange(count, device=edges.device)
    indices = torch.where(order < wanted, first, second.gather(1, (order - wanted).clamp(min=0)))
    represented = near / wanted.clamp(min=1), (tokens - near) / (count - wanted).clamp(min=1)
    return LossSample(indices, torch.where(order < wanted, *represented))


def gather_pixels(planes: Tensor, sample: LossSample) -> Tensor:
    """Gather the pixels of planes (N, h, w) at the sampled tokens: (N, K, 16)."""
    patches = patchify(planes)
    return patches.gather(1, sample.indices[..., None].expand(-1, -1, patches.shape[2]))
