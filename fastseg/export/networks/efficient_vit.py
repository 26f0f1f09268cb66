"""EfficientViT, the image encoder of EfficientViT-SAM (Cai et al. 2023; Zhang et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.layers import LayerNorm2d, Operations
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import WIDTH, PromptEncoder
from fastseg.export.networks.resampling import BicubicResize
from fastseg.export.networks.sam import SamModules

EPSILON = 1e-6
"""Added to the variance in every norm of the published networks, their decoder's included."""

GRID, SQUARE = 64, 1024
"""Side of the embedding in tokens, and of the square of prompts in pixels; those of SAM."""

HEAD = 32
"""Channels of an attention head."""

PLAIN, FUSED, SEPARABLE, ATTENTION = "plain", "fused", "separable", "attention"
"""The kinds of blocks of a stage."""


@dataclass(frozen=True, slots=True)
class EfficientViTShape:
    """The size of an encoder."""

    side: int
    """Side of the square input in pixels."""

    depths: tuple[int, ...]
    """Blocks of each stage behind its first one, which halves the side."""

    neck_depth: int
    neck_expansion: int

    @property
    def is_large(self) -> bool:
        """True for L, with five stages; XL has six."""
        return len(self.depths) == 5

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(HEAD * 2**stage for stage in range(len(self.depths)))

    @property
    def blocks(self) -> tuple[str, ...]:
        """Kind of the blocks of each stage."""
        if self.is_large:
            return (PLAIN, FUSED, FUSED, SEPARABLE, ATTENTION)
        return (PLAIN, FUSED, FUSED, FUSED, ATTENTION, ATTENTION)

    @property
    def expansions(self) -> tuple[int, ...]:
        """Inner channels of the blocks of each stage by their outer ones."""
        return (1, *(4 for _ in self.depths[2:]), 6)

    @property
    def kernel(self) -> int:
        """Side of the kernel of the second scale of attention."""
        return 5 if self.is_large else 3


SHAPES: Mapping[str, EfficientViTShape] = MappingProxyType(
    {
        "l0": EfficientViTShape(512, (1, 1, 1, 4, 4), 4, 1),
        "l1": EfficientViTShape(512, (1, 1, 1, 6, 6), 8, 1),
        "l2": EfficientViTShape(512, (1, 2, 2, 8, 8), 12, 1),
        "xl0": EfficientViTShape(1024, (0, 1, 1, 2, 3, 3), 6, 4),
        "xl1": EfficientViTShape(1024, (1, 2, 2, 4, 6, 6), 12, 4),
    }
)
"""The published sizes of EfficientViT-SAM."""


def gelu(x: Tensor) -> Tensor:
    """Apply the tanh form of GELU, which the networks were trained with."""
    return functional.gelu(x, approximate="tanh")


class Conv(nn.Module):
    """A convolution with batch normalisation or else a bias, and GELU if asked for."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        normalised: bool = True,
        activated: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding=kernel // 2,
            groups=groups,
            bias=not normalised,
        )
        self.norm = nn.BatchNorm2d(outputs, EPSILON) if normalised else None
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """Map float (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        out: Tensor = self.conv(x)
        if self.norm is not None:
            out = self.norm(out)
        return gelu(out) if self.activated else out


class PlainConvs(nn.Module):
    """Two convolutions of 3 x 3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv(width, width, 3)
        self.conv2 = Conv(width, width, 3, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        out: Tensor = self.conv2(self.conv1(x))
        return out


class FusedConvs(nn.Module):
    """An inverted bottleneck whose first convolution does the work of two (Tan and Le 2021)."""

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int = 1) -> None:
        super().__init__()
        self.spatial_conv = Conv(inputs, hidden, 3, stride=stride)
        self.point_conv = Conv(hidden, outputs, 1, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        out: Tensor = self.point_conv(self.spatial_conv(x))
        return out


class SeparableConvs(nn.Module):
    """An inverted bottleneck (Sandler et al. 2018) with one norm, at its end."""

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int = 1) -> None:
        super().__init__()
        self.inverted_conv = Conv(inputs, hidden, 1, normalised=False)
        self.depth_conv = Conv(hidden, hidden, 3, stride=stride, groups=hidden, normalised=False)
        self.point_conv = Conv(hidden, outputs, 1, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        out: Tensor = self.point_conv(self.depth_conv(self.inverted_conv(x)))
        return out


class LinearAttention(nn.Module):
    """Attention without a softmax at two scales, so that it costs as much as a convolution."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        total = 3 * width
        self.qkv = Conv(width, total, 1, activated=False)
        self.qkv.norm = None
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(total, total, kernel, padding=kernel // 2, groups=total, bias=False),
                    nn.Conv2d(total, total, 1, groups=total // HEAD, bias=False),
                )
            ]
        )
        self.proj = Conv(2 * width, width, 1, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        batch, _, height, width = x.shape
        first = self.qkv(x)
        both = torch.cat([first, self.aggreg[0](first)], dim=1)
        parts = both.reshape(batch, -1, 3 * HEAD, height * width)
        queries, keys, values = parts.chunk(3, dim=2)
        queries, keys = functional.relu(queries), functional.relu(keys)
        mixed = (values @ keys.transpose(2, 3)) @ queries
        weight = keys.sum(dim=3).unsqueeze(2) @ queries
        heads = mixed / (weight + 1e-15)
        out: Tensor = self.proj(heads.reshape(batch, -1, height, width))
        return out


class Residual(nn.Module):
    """A block with the sum of its input, under the weight name ``main``."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        out: Tensor = x + self.main(x)
        return out


class Halving(nn.Module):
    """The first block of a stage, which halves the side and has no residual."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / 2, w / 2)."""
        out: Tensor = self.main(x)
        return out


class AttentionBlock(nn.Module):
    """Linear attention, then an inverted bottleneck, both with residuals."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.context_module = Residual(LinearAttention(width, kernel))
        self.local_module = Residual(SeparableConvs(width, width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        out: Tensor = self.local_module(self.context_module(x))
        return out


class Backbone(nn.Module):
    """The stages, of which the last three are read."""

    def __init__(self, shape: EfficientViTShape) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_stage(shape, at) for at in range(len(shape.depths))])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images (B, 3, side, side) to the maps of the last three stages, finest first."""
        maps, x = [], image
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[-3:]


def _stage(shape: EfficientViTShape, at: int) -> Operations:
    width, depth = shape.widths[at], shape.depths[at]
    if at == 0:
        plain: list[nn.Module] = [Residual(PlainConvs(width)) for _ in range(depth)]
        return Operations([Conv(3, width, 3, stride=2), *plain])
    before, kind = shape.widths[at - 1], shape.blocks[at]
    # The first block widens four times as much as the others.
    wide = 4 * shape.expansions[at] * before
    hidden = shape.expansions[at] * width
    bottleneck = FusedConvs if kind == FUSED else SeparableConvs
    first = Halving(bottleneck(before, width, wide, stride=2))
    if kind == ATTENTION:
        rest: list[nn.Module] = [AttentionBlock(width, hidden, shape.kernel) for _ in range(depth)]
    else:
        rest = [Residual(bottleneck(width, width, hidden)) for _ in range(depth)]
    return Operations([first, *rest])


class Neck(nn.Module):
    """The sum of three maps at the resolution of the embedding, and fused blocks on it."""

    def __init__(self, shape: EfficientViTShape) -> None:
        super().__init__()
        coarsest = shape.side // 2 ** len(shape.depths)
        self.input_ops = nn.ModuleList(
            [
                Operations(
                    [Conv(width, WIDTH, 1, activated=False), BicubicResize(coarsest * 2**at, GRID)]
                )
                for at, width in enumerate(reversed(shape.widths[-3:]))
            ]
        )
        hidden = shape.neck_expansion * WIDTH
        self.middle = Operations(
            [Residual(FusedConvs(WIDTH, WIDTH, hidden)) for _ in range(shape.neck_depth)]
        )
        last = Conv(WIDTH, WIDTH, 1, normalised=False, activated=False)
        self.output_ops = nn.ModuleList([Operations([last])])

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map three maps, finest first, to (B, 256, 64, 64)."""
        coarse, middle, fine = (
            operation(each) for operation, each in zip(self.input_ops, reversed(maps), strict=True)
        )
        out: Tensor = self.output_ops[0](self.middle(coarse + middle + fine))
        return out


class EfficientViT(nn.Module):
    """Backbone and neck with the weight names of EfficientViT-SAM."""

    def __init__(self, shape: EfficientViTShape) -> None:
        super().__init__()
        self.backbone = Backbone(shape)
        self.neck = Neck(shape)
        self.norm = LayerNorm2d(WIDTH)

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images (B, 3, side, side) to (B, 256, 64, 64)."""
        embedding: Tensor = self.norm(self.neck(self.backbone(image)))
        return embedding


def build(shape: EfficientViTShape) -> SamModules:
    """Build the modules of a size."""
    return SamModules(
        EfficientViT(shape), PromptEncoder(GRID, SQUARE), MaskDecoder(EPSILON), shape.side
    )
