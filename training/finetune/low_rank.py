"""LoRA (Hu et al. 2021) in training: low-rank pairs beside frozen weights, and their file names.

The names are those of finetune-SAM (``linear_a_q`` in the encoder, ``w_a`` in the decoder), which
``fastseg export --lora`` merges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fastseg.export.networks import image_encoder, mask_decoder
from fastseg.export.networks.sam import SamModules


class LowRankChange(nn.Module):
    """An addition of rank r to the rows of a weight: ``up @ down``, zero at the start."""

    def __init__(self, weight: Tensor, rows: tuple[int, int], rank: int) -> None:
        super().__init__()
        self.rows = rows
        first, end = rows
        self.down = nn.Parameter(torch.empty(rank, weight.shape[1], device=weight.device))
        self.up = nn.Parameter(torch.zeros(end - first, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight; the frozen one stays as it is."""
        first, end = self.rows
        changed = weight[first:end] + self.up @ self.down
        return torch.cat([weight[:first], changed, weight[end:]])


@dataclass(frozen=True, slots=True)
class LowRankPair:
    """A pair in a network, and the names of its sides in a file."""

    change: LowRankChange
    down_name: str
    up_name: str


def add_pairs(
    modules: SamModules, rank: int, seed: int, published_name: Callable[[str], str]
) -> list[LowRankPair]:
    """Put pairs beside queries and values of SAM's encoder blocks and of the decoder's attentions.

    Encoders of other networks get none.

    Args:
        modules: Changed in place: their weights become sums, their parameters the pairs.
        rank: Of every pair.
        seed: Of the initial values.
        published_name: Turns the name of a module's weight into that of a checkpoint.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [*_of_encoder(modules, rank), *_of_decoder(modules, rank, published_name)]


def _of_encoder(modules: SamModules, rank: int) -> Iterator[LowRankPair]:
    for path, module in list(modules.image_encoder.named_modules()):
        if not isinstance(module, image_encoder.Attention):
            continue
        width = module.qkv.in_features
        name = f"image_encoder.{path}.qkv.linear"
        for part, first in (("q", 0), ("v", 2 * width)):
            change = _add(module.qkv, (first, first + width), rank)
            yield LowRankPair(change, f"{name}_a_{part}.weight", f"{name}_b_{part}.weight")


def _of_decoder(
    modules: SamModules, rank: int, published_name: Callable[[str], str]
) -> Iterator[LowRankPair]:
    for path, module in list(modules.mask_decoder.named_modules()):
        if not isinstance(module, mask_decoder.Attention):
            continue
        for projection in ("q_proj", "v_proj"):
            weight = published_name(f"mask_decoder.{path}.{projection}.weight")
            layer: nn.Linear = getattr(module, projection)
            name = weight.removesuffix("weight")
            change = _add(layer, (0, layer.out_features), rank)
            yield LowRankPair(change, f"{name}w_a.weight", f"{name}w_b.weight")


def _add(layer: nn.Linear, rows: tuple[int, int], rank: int) -> LowRankChange:
    change = LowRankChange(layer.weight, rows, rank)
    parametrize.register_parametrization(layer, "weight", change)
    return change
