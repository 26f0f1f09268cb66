"""The U-Net that the echo views share, as a torch module: the same layers as the Keras original."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 5
"""Resolutions, the finest included: each has half the side and twice the channels of the last."""

SMALLEST_SIDE = 2 ** (LEVELS - 1)
"""Sides of the input must be multiples of this many pixels."""


class UNet(nn.Module):
    """Plain U-Net: no norm, no dropout; its transposed convolutions have no activation.

    The layers and their order are those of Ferreira et al., Nat Commun 16, 4070 (2025). The names
    in the state dict are fixed, since weights are stored under them. Level ``i`` counts from the
    finest, 0, and has ``width * 2**i`` channels:

    - ``down.{i}.{0,1}``: 3x3 convolutions with ReLU of levels 0 to 4; a 2x2 maximum lies between.
    - ``up.{i}``: 2x2 transposed convolution with stride 2 from level ``i + 1`` to level ``i``.
    - ``merge.{i}.{0,1}``: 3x3 convolutions with ReLU of what ``up.{i}`` gave, then the output of
      ``down.{i}.1``.
    - ``head``: 1x1 convolution of level 0 to the classes.

    Args:
        channels: Of the input: 3 for colour frames, 1 for grey ones.
        classes: Channels of the output.
        width: Channels of the finest level; 32 in the published network.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.channels, self.classes, self.width = channels, classes, width
        widths = [width * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(
            _Convolutions(before, after) for before, after in pairwise([channels, *widths])
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * after, after, kernel_size=2, stride=2) for after in widths[:-1]
        )
        self.merge = nn.ModuleList(_Convolutions(2 * after, after) for after in widths[:-1])
        self.head = nn.Conv2d(width, classes, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as Keras does: uniform after Glorot, biases zero."""
        for module in self._layers():
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Compute the logits of each class.

        Args:
            frames: (batch, channels, height, width), float, in [0, 1]; both sides are multiples
                of ``SMALLEST_SIDE``.

        Returns:
            Logits (batch, classes, height, width): their sigmoid is the probability that a pixel
            is of the class. Classes may overlap.
        """
        features = self.down[0](frames)
        finer = []
        for level in self.down[1:]:
            finer.append(features)
            features = level(functional.max_pool2d(features, 2))
        for up, merge, skipped in zip(
            reversed(self.up), reversed(self.merge), reversed(finer), strict=True
        ):
            features = merge(torch.cat([up(features), skipped], dim=1))
        logits: Tensor = self.head(features)
        return logits

    def _layers(self) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                yield module


class _Convolutions(nn.Sequential):
    """Two 3x3 convolutions, each with its ReLU; named 0 and 1."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, kernel_size=3, padding=1),
            nn.Conv2d(after, after, kernel_size=3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        for convolution in self:
            features = functional.relu(convolution(features))
        return features
