"""RITM: HRNet with object context, and point maps as a second input (Sofiiuk et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from fastseg.export.networks.hrnet import STEM, HRNet, HRNetShape, convolved
from fastseg.export.onnx.enlarge import enlarge

SIDE_CHANNELS = 3
"""Channels of the second input: the previous mask, foreground points, background points."""


@dataclass(frozen=True, slots=True)
class RitmShape:
    """Sizes of a network."""

    trunk: HRNetShape
    key: int
    """Channels of keys and values of the object context; its maps have twice as many."""


SHAPES: Mapping[str, RitmShape] = MappingProxyType(
    {
        "ritm-h18s": RitmShape(HRNetShape(18, 2, (1, 3, 2)), 48),
        "ritm-h18": RitmShape(HRNetShape(18), 64),
        "ritm-h32": RitmShape(HRNetShape(32), 128),
    }
)
"""The published iterative-mask networks."""


class RitmTrunk(HRNet):
    """The trunk with the head of object context; names of weights are the published ones."""

    def __init__(self, shape: RitmShape) -> None:
        super().__init__(shape.trunk)
        channels, middle = shape.trunk.channels, 2 * shape.key
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(channels, middle, 3, 1, 1), nn.BatchNorm2d(middle), nn.ReLU()
        )
        self.ocr_distri_head = ContextHead(middle, shape.key)
        self.cls_head = nn.Conv2d(middle, 1, 1)
        self.aux_head = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, image: Tensor, guidance: Tensor) -> Tensor:
        """Compute logits (batch, 1, ...) at a quarter of the image's side; see ``HRNet``."""
        joined = super().forward(image, guidance)
        rough = self.aux_head(joined)
        x = self.conv3x3_ocr(joined)
        # The one object of the context: the mean of the pixels, weighted by the softmax of the
        # rough mask over them. Both axes stay, so that no size is part of the graph.
        weights = torch.exp(rough - rough.amax((2, 3), keepdim=True))
        proxy = (x * (weights / weights.sum((2, 3), keepdim=True))).sum((2, 3), keepdim=True)
        logits: Tensor = self.cls_head(self.ocr_distri_head(x, proxy))
        return logits


class ContextHead(nn.Module):
    """Object context of every pixel, joined with its own features."""

    def __init__(self, channels: int, key: int) -> None:
        super().__init__()
        self.object_context_block = ObjectAttention(channels, key)
        joined = nn.Conv2d(2 * channels, channels, 1, bias=False)
        after = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.conv_bn_dropout = nn.Sequential(joined, after)

    def forward(self, x: Tensor, proxy: Tensor) -> Tensor:
        """Map pixels (batch, channels, h, w) and an object (batch, channels, 1, 1) to pixels."""
        context = enlarge(self.object_context_block(proxy), x)
        joined: Tensor = self.conv_bn_dropout(torch.cat([context, x], dim=1))
        return joined


class ObjectAttention(nn.Module):
    """Attention of pixels to objects, of which RITM has one.

    The softmax over one object is 1 whatever the queries and keys are, so the value alone is
    computed. The weights of queries and keys are held for their names and are no part of a graph.
    """

    def __init__(self, channels: int, key: int) -> None:
        super().__init__()
        self.f_pixel = _pointwise(channels, key, key)
        self.f_object = _pointwise(channels, key, key)
        self.f_down = _pointwise(channels, key)
        self.f_up = _pointwise(key, channels)

    def forward(self, proxy: Tensor) -> Tensor:
        """Map the object (batch, channels, 1, 1) to the context of every pixel, the same shape."""
        context: Tensor = self.f_up(self.f_down(proxy))
        return context


class Magnitude(nn.Module):
    """A product with the absolute value of one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.05))

    def forward(self, x: Tensor) -> Tensor:
        """Scale a tensor of any shape."""
        return x * self.scale.abs()


class Ritm(nn.Module):
    """The whole network: an image, its point maps and the previous mask to logits."""

    def __init__(self, shape: RitmShape) -> None:
        super().__init__()
        self.feature_extractor = RitmTrunk(shape)
        self.maps_transform = nn.Sequential(
            nn.Conv2d(SIDE_CHANNELS, 16, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, STEM, 3, 2, 1),
            Magnitude(),
        )

    def forward(self, image: Tensor, guidance: Tensor) -> Tensor:
        """Compute the logits of a mask.

        Args:
            image: (batch, 3, height, width) normalised.
            guidance: (batch, 3, height, width): previous mask in 0..1, foreground points and
                background points as disks of ones.

        Returns:
            (batch, 1, height, width).
        """
        logits = self.feature_extractor(image, self.maps_transform(guidance))
        enlarged: Tensor = enlarge(logits, image)
        return enlarged


def _pointwise(channels: int, *widths: int) -> nn.Sequential:
    """Make 1 x 1 convolutions, each with a batch norm and a ReLU in a sequence of their own."""
    layers: list[nn.Module] = []
    for width in widths:
        conv, *after = convolved(channels, width, side=1)
        layers += [conv, nn.Sequential(*after)]
        channels = width
    return nn.Sequential(*layers)
