"""TinyViT, the image encoder of MobileSAM and LiteMedSAM (Wu et al. 2022; Zhang et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.layers import LayerNorm2d
from fastseg.export.networks.windows import merge, pad_to_windows, partition

CHANNELS = 256
HEAD = 32
"""Channels of an attention head."""


@dataclass(frozen=True, slots=True)
class TinyViTShape:
    """The input and the stem of a TinyViT; its stages are the same for all."""

    side: int
    """Side of the square input in pixels."""

    stem_stride: int
    """Stride of both convolutions of the stem: 2 with a kernel of 3 x 3, or 1 with one of 1 x 1."""

    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    windows: tuple[int, int, int] = (7, 14, 7)
    """Sides in tokens of the windows of the last three stages."""

    @property
    def patch(self) -> int:
        """Pixels of the input along each axis that a token of the embedding stands for."""
        return self.stem_stride**2 * 4

    @property
    def grid(self) -> int:
        """Tokens of the embedding along each axis."""
        return self.side // self.patch


MOBILE_SAM = TinyViTShape(side=1024, stem_stride=2)
LITE_MEDSAM = TinyViTShape(side=256, stem_stride=1)


class ConvNorm(nn.Module):
    """A convolution without bias and its batch normalisation, as names ``c`` and ``bn``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        out: Tensor = self.bn(self.c(x))
        return out


class Stem(nn.Module):
    """Two convolutions of the pixels."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        kernel = 3 if stride == 2 else 1
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, kernel, stride=stride),
            nn.GELU(),
            ConvNorm(width // 2, width, kernel, stride=stride),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, side, side) to (B, width, side / stride^2, side / stride^2)."""
        out: Tensor = self.seq(image)
        return out


class MobileBlock(nn.Module):
    """An inverted bottleneck with its residual (Howard et al. 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 4 * width
        self.conv1 = ConvNorm(width, hidden, 1)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        hidden = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        return functional.gelu(x + self.conv3(hidden))


class Downsample(nn.Module):
    """The step to the next stage: more channels and, except for the last one, half the side."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 1)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride=stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        hidden = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        out: Tensor = self.conv3(hidden)
        return out


class Attention(nn.Module):
    """Multi-head attention within a window, with a bias for each distance of two tokens."""

    places: Tensor

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window * window))
        steps = torch.arange(window, device="cpu")
        apart = (steps[:, None] - steps).abs()
        # [row, column] of a query by [row, column] of a key: rows apart, then columns apart.
        places = apart[:, None, :, None] * window + apart[None, :, None, :]
        self.register_buffer("places", places.flatten(2).flatten(0, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (N, window, window, width) to the same shape."""
        count, window, _, width = x.shape
        tokens = window * window
        # Queries, keys and values stand side by side in each head.
        qkv = self.qkv(self.norm(x)).reshape(count, tokens, self.heads, 3 * HEAD)
        queries, keys, values = qkv.transpose(1, 2).chunk(3, dim=-1)
        logits = (queries * HEAD**-0.5) @ keys.transpose(2, 3)
        logits = logits + self.attention_biases[:, self.places]
        mixed = torch.softmax(logits, dim=-1) @ values
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(count, window, window, width))
        return out


class Mlp(nn.Module):
    """Two linear layers behind their own normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Attention within windows, a depthwise convolution, and a feed-forward network."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(width, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        tokens = x.permute(0, 2, 3, 1)
        # As trained: the zeros of the padding go through the norm, and become its bias.
        windows = self.attn(partition(pad_to_windows(tokens, self.window), self.window))
        tokens = tokens + merge(windows, x.shape[0], (x.shape[2], x.shape[3]))
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        mixed: Tensor = tokens + self.mlp(tokens)
        return mixed.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks of one resolution, and the step to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: Downsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the input of the next stage."""
        for block in self.blocks:
            x = block(x)
        if self.downsample is not None:
            x = self.downsample(x)
        return x


class TinyViT(nn.Module):
    """TinyViT with SAM's neck and the weight names of its checkpoints; no classifier."""

    def __init__(self, shape: TinyViTShape) -> None:
        super().__init__()
        first, *wider = shape.widths
        self.patch_embed = Stem(first, shape.stem_stride)
        stages: list[list[nn.Module]] = [[MobileBlock(first) for _ in range(shape.depths[0])]]
        for width, window, depth in zip(wider, shape.windows, shape.depths[1:], strict=True):
            stages.append([TinyViTBlock(width, window) for _ in range(depth)])
        steps: list[Downsample | None] = [
            Downsample(before, after, 1 if after == shape.widths[-1] else 2)
            for before, after in zip(shape.widths, wider, strict=False)
        ]
        self.layers = nn.ModuleList(
            [Stage(blocks, step) for blocks, step in zip(stages, [*steps, None], strict=True)]
        )
        self.neck = nn.Sequential(
            nn.Conv2d(shape.widths[-1], CHANNELS, kernel_size=1, bias=False),
            LayerNorm2d(CHANNELS),
            nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(CHANNELS),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images (B, 3, side, side) to (B, 256, grid, grid)."""
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        embedding: Tensor = self.neck(x)
        return embedding
