"""The U-Net of nnU-Net's two-dimensional plans, with its sizes read from the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.onnx.instance_norm import instance_norm

SLOPE = 0.01
"""Slope of the leaky ReLU below 0."""

CLASSES = 2
"""Background and the object in the box."""

_FIRST = "encoder.stages.0.0.convs.0.conv.weight"


@dataclass(frozen=True, slots=True)
class PlainUNetShape:
    """Sizes of a network, the finest stage first."""

    channels: int
    """Of the input: those of the image and one of the box."""

    widths: tuple[int, ...]
    """Channels of each stage."""

    kernels: tuple[tuple[int, int], ...]
    """Height and width of the kernels of each stage."""

    strides: tuple[tuple[int, int], ...]
    """Factors by which each stage is coarser than the one before; the first is (1, 1)."""

    encoder: tuple[int, ...]
    """Convolutions of each stage on the way down."""

    decoder: tuple[int, ...]
    """Convolutions of each stage on the way up, the coarsest first."""

    @property
    def divisor(self) -> int:
        """Least number that every side of the input must be a multiple of."""
        return max(math.prod(stride[axis] for stride in self.strides) for axis in (0, 1))


def shape_of(weights: Mapping[str, Tensor]) -> PlainUNetShape | None:
    """Read the sizes of a network from its weights; None if they are of another one."""
    first = weights.get(_FIRST)
    stages = _count(weights, r"encoder\.stages\.(\d+)\.0\.convs\.0\.conv\.weight")
    up = _count(weights, r"decoder\.transpconvs\.(\d+)\.weight")
    if first is None or first.ndim != 4 or stages < 2 or up != stages - 1:
        return None
    convs = [weights[f"encoder.stages.{stage}.0.convs.0.conv.weight"] for stage in range(stages)]
    factors = [tuple(weights[f"decoder.transpconvs.{at}.weight"].shape[2:]) for at in range(up)]
    return PlainUNetShape(
        channels=first.shape[1],
        widths=tuple(conv.shape[0] for conv in convs),
        kernels=tuple((conv.shape[2], conv.shape[3]) for conv in convs),
        strides=((1, 1), *((factor[0], factor[1]) for factor in reversed(factors))),
        encoder=tuple(
            _count(weights, rf"encoder\.stages\.{stage}\.0\.convs\.(\d+)\.conv\.weight")
            for stage in range(stages)
        ),
        decoder=tuple(
            _count(weights, rf"decoder\.stages\.{at}\.convs\.(\d+)\.conv\.weight")
            for at in range(up)
        ),
    )


class PlainUNet(nn.Module):
    """The whole network; names of weights are those of nnU-Net v2."""

    def __init__(self, shape: PlainUNetShape) -> None:
        super().__init__()
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)

    def forward(self, image: Tensor, guidance: Tensor) -> Tensor:
        """Compute logits.

        Args:
            image: (batch, channels, height, width) normalised.
            guidance: (batch, 1, height, width) the box, normalised or not.

        Returns:
            (batch, 1, height, width) the logit of the object less that of the background, whose
            sigmoid is the softmax of both.
        """
        logits = self.decoder(self.encoder(torch.cat([image, guidance], dim=1)))
        difference: Tensor = logits[:, 1:2] - logits[:, 0:1]
        return difference


class Encoder(nn.Module):
    """The way down."""

    def __init__(self, shape: PlainUNetShape) -> None:
        super().__init__()
        before = (shape.channels, *shape.widths)
        stages = [
            nn.Sequential(
                Stack(before[at], shape.widths[at], shape.kernels[at], shape.encoder[at], stride)
            )
            for at, stride in enumerate(shape.strides)
        ]
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage, the finest first."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """The way up; the segmentation layers of coarser stages are held for their names alone."""

    def __init__(self, shape: PlainUNetShape) -> None:
        super().__init__()
        stages, transposed, heads = [], [], []
        for at, count in enumerate(shape.decoder):
            fine = len(shape.widths) - 2 - at
            width, factor = shape.widths[fine], shape.strides[fine + 1]
            transposed.append(nn.ConvTranspose2d(shape.widths[fine + 1], width, factor, factor))
            stages.append(Stack(2 * width, width, shape.kernels[fine], count, (1, 1)))
            heads.append(nn.Conv2d(width, CLASSES, 1))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(transposed)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Compute the logits of both classes at the size of the finest map."""
        *finer, x = maps
        for up, stage in zip(self.transpconvs, self.stages, strict=True):
            x = stage(torch.cat([up(x), finer.pop()], dim=1))
        logits: Tensor = self.seg_layers[-1](x)
        return logits


class Stack(nn.Module):
    """Convolutions one after the other; the first may be strided."""

    def __init__(
        self, channels: int, out: int, kernel: tuple[int, int], count: int, stride: tuple[int, int]
    ) -> None:
        super().__init__()
        blocks = [Block(channels, out, kernel, stride)]
        blocks += [Block(out, out, kernel, (1, 1)) for _ in range(count - 1)]
        self.convs = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, out, h / stride, w / stride)."""
        mapped: Tensor = self.convs(x)
        return mapped


class Block(nn.Module):
    """A convolution, an instance norm and a leaky ReLU."""

    def __init__(
        self, channels: int, out: int, kernel: tuple[int, int], stride: tuple[int, int]
    ) -> None:
        super().__init__()
        around = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
        self.conv = nn.Conv2d(channels, out, kernel, stride, around)
        self.norm = nn.InstanceNorm2d(out, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map a map to one of the same size, or of that divided by the stride."""
        normal = instance_norm(self.conv(x), self.norm.weight, self.norm.bias)
        return functional.leaky_relu(normal, SLOPE)


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """Count the numbers from 0 that a pattern of names has without a gap."""
    found = {int(match[1]) for name in weights if (match := re.fullmatch(pattern, name))}
    return next(number for number in range(len(found) + 1) if number not in found)
