"""Where a mask's loss is taken: at its edge, and at a sample of everything else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from training.sam_nano.training_decoder import cells

SHARE = 0.3
"""Of a prompt's image tokens, those that its mask is drawn at."""

EDGE_SHARE = 0.6
"""At most this part of them lies at the object's edge."""


class Places(NamedTuple):
    """K image tokens for each of N prompts, and how many each of them stands for."""

    indices: Tensor
    """int64 (N, K)."""
    weights: Tensor
    """float32 (N, K): sums over places with these weights estimate sums over the picture."""


def pick(targets: Tensor, random: torch.Generator) -> Places:
    """Choose places for targets (N, h, w): shares of mask pixels that objects cover."""
    shares = cells(targets)
    low, high = shares.amin(dim=2), shares.amax(dim=2)
    grid = round(shares.shape[1] ** 0.5)
    mixed = ((high > 0) & (low < 1)).float().reshape(-1, 1, grid, grid)
    edges = functional.max_pool2d(mixed, 3, stride=1, padding=1).flatten(1) > 0
    tokens = shares.shape[1]
    count = max(1, round(SHARE * tokens))
    near = edges.sum(dim=1, keepdim=True)
    wanted = torch.maximum(near.clamp(max=round(EDGE_SHARE * count)), count - (tokens - near))
    lots = torch.rand(edges.shape, generator=random).to(edges.device)
    # Those at the edge in the order of their lots, then the others: and the other way round.
    first, second = ((lots + kind).argsort(dim=1)[:, :count] for kind in (~edges, edges))
    turn = torch.arange(count, device=edges.device)
    indices = torch.where(turn < wanted, first, second.gather(1, (turn - wanted).clamp(min=0)))
    stands = near / wanted.clamp(min=1), (tokens - near) / (count - wanted).clamp(min=1)
    return Places(indices, torch.where(turn < wanted, *stands))


def at(planes: Tensor, places: Places) -> Tensor:
    """What planes (N, h, w) show at the places: (N, K, 16)."""
    shown = cells(planes)
    return shown.gather(1, places.indices[..., None].expand(-1, -1, shown.shape[2]))
