"""SAM's image encoder: a vision transformer with windows and decomposed relative positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.layers import FeedForward, LayerNorm2d
from fastseg.export.networks.windows import merge, pad_to_windows, partition

PATCH = 16
"""Side of the square of pixels that becomes one token."""

WINDOW = 14
"""Side of the windows, in tokens, that most blocks attend within."""

CHANNELS = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of an encoder."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    """The blocks that attend to the whole image instead of windows, counted from 0."""

    side: int = 1024
    """Side of the square input in pixels."""

    @property
    def grid(self) -> int:
        """Side of the image in tokens."""
        return self.side // PATCH


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "vit_b": Shape(768, 12, 12, (2, 5, 8, 11)),
        "vit_l": Shape(1024, 24, 16, (5, 11, 17, 23)),
        "vit_h": Shape(1280, 32, 16, (7, 15, 23, 31)),
    }
)
"""The published sizes of SAM (Kirillov et al. 2023)."""


class Attention(nn.Module):
    """Multi-head attention whose logits also depend on how far apart two tokens are.

    The relative positions are decomposed into rows and columns (Li et al. 2022, MViTv2).

    Args:
        width: Channels of a token.
        heads: Of equal share in them.
        span: Side, in tokens, of the squares that are attended within.
        windowed: Whether these are windows of the image; else the square is the whole image.
    """

    def __init__(self, width: int, heads: int, span: int, *, windowed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.span = span
        self.windowed = windowed
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * span - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * span - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, grid, grid, width) to the same shape."""
        qkv = functional.linear(x, self.qkv.weight)
        if self.windowed:
            # The padding of SAM's windows is zeros in front of this projection: behind it, that
            # is the bias. Projecting first, and last behind the crop, spares the padding both.
            windows = partition(pad_to_windows(qkv, WINDOW), WINDOW) + self.qkv.bias
            mixed = merge(self.mix(windows), x.shape[0], (x.shape[1], x.shape[2]))
        else:
            mixed = self.mix(qkv + self.qkv.bias)
        out: Tensor = self.proj(mixed)
        return out

    def mix(self, qkv: Tensor) -> Tensor:
        """Attend within squares of tokens.

        Args:
            qkv: float (N, span, span, 3 * width), queries, keys and values of every token.

        Returns:
            float (N, span, span, width).
        """
        count, span = qkv.shape[0], self.span
        queries, keys, values = self.by_head(qkv)
        channels = queries.shape[3]
        grid = queries.reshape(count, self.heads, span, span, channels)
        rows = (grid @ self.by_distance(self.rel_pos_h)).unsqueeze(-1)
        columns = grid.transpose(2, 3) @ self.by_distance(self.rel_pos_w)
        columns = columns.transpose(2, 3).unsqueeze(-2)
        # One head at a time where a map is 4096 x 4096 logits, 67 MB.
        at_once = self.heads if self.windowed else 1
        attend = attend_in_graphs if torch.compiler.is_compiling() else attend_in_torch
        mixed = []
        for first in range(0, self.heads, at_once):
            some, n = slice(first, first + at_once), min(at_once, self.heads - first)
            bias = (rows[:, some], columns[:, some], (count, n, span, span, span, span))
            mixed.append(attend(queries[:, some], keys[:, some], values[:, some], bias))
        heads = mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=1)
        return heads.transpose(1, 2).reshape(count, span, span, self.heads * channels)

    def by_head(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (N, span, span, 3 * width) into three of (N, heads, span * span, channels)."""
        count, tokens = qkv.shape[0], self.span * self.span
        parts = qkv.reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        return queries, keys, values

    def by_distance(self, table: Tensor) -> Tensor:
        """Lay a table (2 * span - 1, channels) out as (span, channels, span): query and key."""
        steps = torch.arange(self.span, device=table.device)
        distances = steps.unsqueeze(1) - steps.unsqueeze(0) + self.span - 1
        return table[distances].transpose(1, 2)


Bias: TypeAlias = tuple[Tensor, Tensor, tuple[int, ...]]
"""Summands of the logits for rows and columns, and the shape that both broadcast to."""


def attend_in_graphs(queries: Tensor, keys: Tensor, values: Tensor, bias: Bias) -> Tensor:
    """Attend in the operators of an exported graph.

    The bias is added: the other form, in folded_encoder, is 1.4 times as slow in ONNX Runtime. The
    product of queries and keys triples there, and that runtime fuses no attention on a CPU.
    """
    rows, columns, shape = bias
    scaled = queries * queries.shape[3] ** -0.5
    logits = (scaled @ keys.transpose(2, 3)).reshape(shape)
    logits = (logits + rows + columns).reshape(*shape[:2], shape[2] * shape[3], -1)
    return torch.softmax(logits, dim=-1) @ values


def attend_in_torch(queries: Tensor, keys: Tensor, values: Tensor, bias: Bias) -> Tensor:
    """Attend as torch does fastest, in one operator; the reference of the exported graph."""
    rows, columns, shape = bias
    mask = (rows + columns).expand(shape).reshape(*shape[:2], shape[2] * shape[3], -1)
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


class Block(nn.Module):
    """Attention and a feed-forward network, each normalised before and added to its input."""

    def __init__(self, shape: Shape, *, windowed: bool) -> None:
        super().__init__()
        span = WINDOW if windowed else shape.grid
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = Attention(shape.width, shape.heads, span, windowed=windowed)
        self.norm2 = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = FeedForward(shape.width, 4 * shape.width, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, grid, grid, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """Squares of pixels to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, side, side) to (B, grid, grid, width)."""
        planes: Tensor = self.proj(image)
        return planes.permute(0, 2, 3, 1)


class VisionTransformer(nn.Module):
    """A vision transformer that the native encoder runs."""

    def weights_as_published(self) -> Mapping[str, Tensor]:
        """Return the weights by the names and in the shapes of SAM's checkpoints."""
        state: Mapping[str, Tensor] = self.state_dict()
        return state


class ImageEncoder(VisionTransformer):
    """SAM's image encoder with its weight names (Kirillov et al. 2023; Li et al. 2022, ViTDet)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(shape.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.grid, shape.grid, shape.width))
        self.blocks = nn.ModuleList(
            [Block(shape, windowed=i not in shape.global_blocks) for i in range(shape.depth)]
        )
        self.neck = nn.Sequential(
            nn.Conv2d(shape.width, CHANNELS, kernel_size=1, bias=False),
            LayerNorm2d(CHANNELS),
            nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(CHANNELS),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised, padded images (B, 3, side, side) to (B, 256, grid, grid)."""
        x = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding
