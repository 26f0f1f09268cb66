"""Hiera, the hierarchical vision transformer of SAM 2 (Ryali et al. 2023; Ravi et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.layers import FeedForward
from fastseg.export.networks.windows import merge, pad_to_windows, partition

STRIDE = 4
"""Pixels along each axis that the first map has one token for."""

WINDOW_POSITIONS = 8
"""Side of the learned positions that repeat over the first map."""


@dataclass(frozen=True, slots=True)
class HieraShape:
    """The size of a trunk."""

    width: int
    """Channels of the first of four stages; each further one has twice as many."""

    heads: int
    """Of the first stage; each further one has twice as many."""

    depths: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    """The blocks that attend to the whole map, counted from 0 over all stages."""

    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    """Sides of the windows of each stage; the first block of a stage has those of the one before.
    """

    background: int = 7
    """Side of the learned positions that are enlarged to the whole first map."""

    side: int = 1024
    """Side of the square input in pixels."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))


SHAPES: Mapping[str, HieraShape] = MappingProxyType(
    {
        "tiny": HieraShape(96, 1, (1, 2, 7, 2), (5, 7, 9)),
        "small": HieraShape(96, 1, (1, 2, 11, 2), (7, 10, 13)),
        "base_plus": HieraShape(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
        "large": HieraShape(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
    }
)
"""The published sizes of SAM 2 and 2.1."""


class PooledAttention(nn.Module):
    """Multi-head attention whose queries may be pooled to half the side."""

    def __init__(self, inputs: int, outputs: int, heads: int, *, pooled: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pooled = pooled
        self.qkv = nn.Linear(inputs, 3 * outputs)
        self.proj = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor, *, one_by_one: bool) -> Tensor:
        """Map (N, h, w, inputs) to (N, h', w', outputs), half the side if pooled.

        Args:
            x: The tokens of windows, or of the whole map.
            one_by_one: Heads are computed one at a time, as one map may have 67 MB of logits.
        """
        count = x.shape[0]
        queries, keys, values = self.qkv(x).chunk(3, dim=-1)
        if self.pooled:
            queries = halved(queries)
        rows, columns = queries.shape[1:3]
        q, k, v = self._split(queries), self._split(keys), self._split(values)
        q = q * q.shape[3] ** -0.5
        k = k.transpose(2, 3)
        step = 1 if one_by_one else self.heads
        mixed = [
            torch.softmax(q[:, first : first + step] @ k[:, first : first + step], dim=-1)
            @ v[:, first : first + step]
            for first in range(0, self.heads, step)
        ]
        joined = mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=1)
        out: Tensor = self.proj(joined.transpose(1, 2).reshape(count, rows, columns, -1))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """Reshape (N, h, w, C) to (N, heads, h * w, C / heads)."""
        count, height, width, channels = x.shape
        return x.reshape(count, height * width, self.heads, channels // self.heads).transpose(1, 2)


class HieraBlock(nn.Module):
    """Attention and a feed-forward network with residuals; the first of a stage halves the side."""

    def __init__(self, inputs: int, outputs: int, heads: int, window: int, *, pooled: bool) -> None:
        super().__init__()
        self.window = window
        self.pooled = pooled
        self.norm1 = nn.LayerNorm(inputs, eps=1e-6)
        self.attn = PooledAttention(inputs, outputs, heads, pooled=pooled)
        self.norm2 = nn.LayerNorm(outputs, eps=1e-6)
        self.mlp = FeedForward(outputs, 4 * outputs, nn.GELU())
        self.proj = nn.Linear(inputs, outputs) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, h, w, inputs) to (B, h', w', outputs), half the side if pooled."""
        normal = self.norm1(x)
        if self.proj is not None:
            x = self.proj(normal)
        if self.pooled:
            x = halved(x)
        x = x + self._attend(normal, (x.shape[1], x.shape[2]))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend(self, normal: Tensor, size: tuple[int, int]) -> Tensor:
        if self.window == 0:
            out: Tensor = self.attn(normal, one_by_one=True)
            return out
        # As trained: windows are padded by zeros behind the norm, and these take part.
        windows = partition(pad_to_windows(normal, self.window), self.window)
        return merge(self.attn(windows, one_by_one=False), normal.shape[0], size)


class PatchEmbed(nn.Module):
    """Overlapping squares of pixels to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=7, stride=STRIDE, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, side, side) to (B, side / 4, side / 4, width)."""
        planes: Tensor = self.proj(image)
        return planes.permute(0, 2, 3, 1)


class Hiera(nn.Module):
    """The trunk with the weight names of SAM 2, but for those of feed-forward networks."""

    positions: Tensor

    def __init__(self, shape: HieraShape) -> None:
        super().__init__()
        self.tokens = shape.side // STRIDE
        self.patch_embed = PatchEmbed(shape.width)
        background = shape.background
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.width, background, background))
        self.pos_embed_window = nn.Parameter(
            torch.zeros(1, shape.width, WINDOW_POSITIONS, WINDOW_POSITIONS)
        )
        self.blocks = nn.ModuleList(_blocks(shape))
        self.ends = frozenset(
            sum(shape.depths[: stage + 1]) - 1 for stage in range(len(shape.depths))
        )
        self.register_buffer("positions", self._positions(), persistent=False)
        self.register_load_state_dict_post_hook(_renew_positions)  # type: ignore[no-untyped-call]

    def _positions(self) -> Tensor:
        """Enlarge and repeat the learned positions to the first map: (1, h, w, width)."""
        size = (self.tokens, self.tokens)
        enlarged = functional.interpolate(self.pos_embed.detach(), size=size, mode="bicubic")
        repeats = self.tokens // WINDOW_POSITIONS
        repeated = self.pos_embed_window.detach().tile((1, 1, repeats, repeats))
        return (enlarged + repeated).permute(0, 2, 3, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (B, 3, side, side) to the maps (B, C, h, w) of the four stages, finest first."""
        x = self.patch_embed(image) + self.positions
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                maps.append(x.permute(0, 3, 1, 2))
        return maps


def _renew_positions(trunk: nn.Module, _: Any) -> None:
    # Computed when weights are loaded, so that no graph enlarges them for every image.
    if isinstance(trunk, Hiera):
        trunk.positions = trunk._positions()


def _blocks(shape: HieraShape) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    inputs, window = shape.width, shape.windows[0]
    for stage, depth in enumerate(shape.depths):
        outputs, heads = shape.widths[stage], shape.heads * 2**stage
        for place in range(depth):
            of_whole_map = len(blocks) in shape.global_blocks
            pooled = place == 0 and stage > 0
            blocks.append(
                HieraBlock(inputs, outputs, heads, 0 if of_whole_map else window, pooled=pooled)
            )
            inputs, window = outputs, shape.windows[stage]
    return blocks


def halved(x: Tensor) -> Tensor:
    """Take the maximum of 2 x 2 tokens: (B, h, w, C) to (B, h / 2, w / 2, C)."""
    pooled = functional.max_pool2d(x.permute(0, 3, 1, 2), kernel_size=2, stride=2)
    return pooled.permute(0, 2, 3, 1)
