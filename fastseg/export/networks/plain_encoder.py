"""A plain vision transformer: every token attends to every other (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.image_encoder import CHANNELS, PatchEmbed, VisionTransformer
from fastseg.export.networks.layers import FeedForward, LayerNorm2d

LEARNED = 14
"""Side of the learned positions in tokens, which are enlarged to the map."""


@dataclass(frozen=True, slots=True)
class PlainShape:
    """The size of an encoder."""

    width: int
    heads: int
    depth: int = 12
    side: int = 1024
    """Side of the square input in pixels."""

    @property
    def grid(self) -> int:
        """Side of the image in tokens."""
        return self.side // 16


class PlainAttention(nn.Module):
    """Multi-head attention of all tokens to all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, grid, grid, width) to the same shape."""
        batch, height, width, channels = x.shape
        parts = self.qkv(x).reshape(batch, height * width, 3, self.heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        queries = queries * queries.shape[3] ** -0.5
        keys = keys.transpose(2, 3)
        # One head at a time: its logits are 4096 x 4096, 67 MB.
        mixed = [
            torch.softmax(queries[:, head] @ keys[:, head], dim=-1) @ values[:, head]
            for head in range(self.heads)
        ]
        out: Tensor = self.proj(torch.cat(mixed, dim=-1).reshape(batch, height, width, channels))
        return out


class PlainBlock(nn.Module):
    """Attention and a feed-forward network, each normalised before and added to its input."""

    def __init__(self, shape: PlainShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = PlainAttention(shape.width, shape.heads)
        self.norm2 = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = FeedForward(shape.width, 4 * shape.width, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, grid, grid, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PlainEncoder(VisionTransformer):
    """EfficientSAM's encoder with the weight names of its checkpoints, but for ``mlp``."""

    positions: Tensor

    def __init__(self, shape: PlainShape) -> None:
        super().__init__()
        self.grid = shape.grid
        self.patch_embed = PatchEmbed(shape.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + LEARNED * LEARNED, shape.width))
        self.blocks = nn.ModuleList([PlainBlock(shape) for _ in range(shape.depth)])
        self.neck = nn.Sequential(
            nn.Conv2d(shape.width, CHANNELS, kernel_size=1, bias=False),
            LayerNorm2d(CHANNELS),
            nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(CHANNELS),
        )
        self.register_buffer("positions", self._positions(), persistent=False)
        self.register_load_state_dict_post_hook(_renew_positions)  # type: ignore[no-untyped-call]

    def _positions(self) -> Tensor:
        """Enlarge the learned positions to the map, without that of the class: (1, h, w, width)."""
        learned = self.pos_embed.detach()[:, 1:].reshape(1, LEARNED, LEARNED, -1)
        planes = learned.permute(0, 3, 1, 2)
        enlarged = functional.interpolate(planes, size=(self.grid, self.grid), mode="bicubic")
        return enlarged.permute(0, 2, 3, 1)

    def weights_as_published(self) -> Mapping[str, Tensor]:
        """Return the weights as SAM's: enlarged positions, and relative ones that are zero."""
        found = {**self.state_dict(), "pos_embed": self.positions}
        for at, block in enumerate(self.blocks):
            assert isinstance(block, PlainBlock)  # noqa: S101 - for the type alone
            channels = block.attn.qkv.in_features // block.attn.heads
            for axis in "hw":
                nothing = torch.zeros(2 * self.grid - 1, channels)
                found[f"blocks.{at}.attn.rel_pos_{axis}"] = nothing
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images (B, 3, side, side) to (B, 256, grid, grid)."""
        x = self.patch_embed(image) + self.positions
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding


def _renew_positions(encoder: nn.Module, _: Any) -> None:
    # Computed when weights are loaded, so that no graph enlarges them for every image.
    if isinstance(encoder, PlainEncoder):
        encoder.positions = encoder._positions()
