"""RepViT, the image encoder of EdgeSAM (Wang et al. 2024; Zhou et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.layers import LayerNorm2d, Operations
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import WIDTH, PromptEncoder
from fastseg.export.networks.resampling import BicubicResize
from fastseg.export.networks.sam import SamModules
from fastseg.export.networks.tiny_vit import ConvNorm

GATE_STEP = 8
"""Hidden channels of a gate are a quarter of all, rounded up to a multiple of this."""


@dataclass(frozen=True, slots=True)
class RepViTShape:
    """The size of an encoder."""

    side: int = 1024
    """Side of the square input in pixels."""

    widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    depths: tuple[int, int, int, int] = (3, 4, 16, 3)
    gated: tuple[int, ...] = (0, 4, *range(8, 21, 2), 24)
    """The blocks with a gate of channels, counted from 0 over all stages."""

    @property
    def grid(self) -> int:
        """Side of the embedding in tokens."""
        return self.side // 16


EDGE_SAM = RepViTShape()


class Gate(nn.Module):
    """Channels weighted by what the whole map holds (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-width // 4 // GATE_STEP) * GATE_STEP
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        # One axis after the other: runtimes add up a whole map with a rounding for each pixel.
        mean = x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
        gate: Tensor = self.fc2(functional.relu(self.fc1(mean))).sigmoid()
        return x * gate


class ThreeBranches(nn.Module):
    """The sum of two depthwise convolutions, of 3 x 3 and 1 x 1, and the input: as one kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, groups=width)
        self.conv1 = ConvNorm(width, width, 1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        around, shift = _folded(self.conv)
        middle, more = _folded(self.conv1)
        kernel = around + functional.pad(middle + 1, (1, 1, 1, 1))
        return functional.conv2d(x, kernel, shift + more, padding=1, groups=x.shape[1])


def _folded(branch: ConvNorm) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of a convolution with its batch normalisation in them."""
    norm = branch.bn
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # noqa: S101, PT018 - for the type alone
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return branch.c.weight * scale[:, None, None, None], norm.bias - mean * scale


class Residual(nn.Module):
    """A block with the sum of its input, under the weight name ``m``."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.m = main

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        out: Tensor = x + self.m(x)
        return out


class RepViTBlock(nn.Module):
    """A depthwise convolution of the map, then a feed-forward network of its channels."""

    def __init__(self, inputs: int, outputs: int, *, gated: bool) -> None:
        super().__init__()
        gate = Gate(inputs) if gated else nn.Identity()
        if inputs == outputs:
            self.token_mixer = nn.Sequential(ThreeBranches(inputs), gate)
        else:
            halving = ConvNorm(inputs, inputs, 3, stride=2, groups=inputs)
            self.token_mixer = nn.Sequential(halving, gate, ConvNorm(inputs, outputs, 1))
        self.channel_mixer = Residual(
            nn.Sequential(
                ConvNorm(outputs, 2 * outputs, 1), nn.GELU(), ConvNorm(2 * outputs, outputs, 1)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h', w'), half the side where channels change."""
        out: Tensor = self.channel_mixer(self.token_mixer(x))
        return out


class RepViT(nn.Module):
    """Blocks, the sum of the last two stages, and SAM's neck, with the names of EdgeSAM."""

    def __init__(self, shape: RepViTShape) -> None:
        super().__init__()
        first = shape.widths[0]
        blocks: list[nn.Module] = [
            nn.Sequential(
                ConvNorm(3, first // 2, 3, stride=2),
                nn.GELU(),
                ConvNorm(first // 2, first, 3, stride=2),
            )
        ]
        before = first
        for width, depth in zip(shape.widths, shape.depths, strict=True):
            for _ in range(depth):
                gated = len(blocks) - 1 in shape.gated
                blocks.append(RepViTBlock(before, width, gated=gated))
                before = width
        self.features = nn.ModuleList(blocks)
        self.middle = sum(shape.depths[:3])
        """Number of the last block of the third stage, the stem counted as 0."""
        self.fuse_stage2 = nn.Conv2d(shape.widths[2], WIDTH, 1, bias=False)
        enlarge = BicubicResize(shape.grid // 2, shape.grid)
        self.fuse_stage3 = Operations([nn.Conv2d(shape.widths[3], WIDTH, 1, bias=False), enlarge])
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, kernel_size=1, bias=False),
            LayerNorm2d(WIDTH),
            nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(WIDTH),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images (B, 3, side, side) to (B, 256, grid, grid)."""
        x = middle = image
        for number, block in enumerate(self.features):
            x = block(x)
            if number == self.middle:
                middle = x
        embedding: Tensor = self.neck(self.fuse_stage2(middle) + self.fuse_stage3(x))
        return embedding


def build(shape: RepViTShape) -> SamModules:
    """Build the modules of EdgeSAM."""
    return SamModules(RepViT(shape), PromptEncoder(shape.grid, shape.side), MaskDecoder())
