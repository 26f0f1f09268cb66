"""The image encoder of sam-nano: a small convolutional network with large depthwise kernels."""

from __future__ import annotations

import torch
from torch import nn

EMBEDDING_CHANNELS = 256


BRANCH_SCALE = 0.4
"""Initial scale of a block's addition: a deep stack that starts near the identity learns sooner."""


def normalised(convolution: nn.Conv2d, *, scale: float = 1.0) -> nn.Sequential:
    """Add to a convolution a batch normalisation of deviation ``scale``, which an export folds."""
    norm = nn.BatchNorm2d(convolution.out_channels)
    nn.init.constant_(norm.weight, scale)
    return nn.Sequential(convolution, norm)


class Block(nn.Module):
    """Mix positions with a large depthwise kernel, then channels, and add the result to the input.

    The block of ConvNeXt (Liu et al. 2022) with a foldable normalisation and a cheap activation.
    """

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(
            channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False
        )
        self.positions = normalised(depthwise)
        self.expand = nn.Conv2d(channels, channels * expansion, 1)
        reduce = nn.Conv2d(channels * expansion, channels, 1, bias=False)
        self.reduce = normalised(reduce, scale=BRANCH_SCALE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to the same shape."""
        result: torch.Tensor = x + self.reduce(torch.relu(self.expand(self.positions(x))))
        return result


class NanoEncoder(nn.Module):
    """Convolutional encoder with SAM-shaped embeddings, at any side that is a multiple of 16.

    Three stages at a quarter, an eighth and a sixteenth of the side. The last two meet in the
    neck, so that an embedding vector knows its surroundings and the fine lines inside its
    16 x 16 pixels.
    """

    def __init__(
        self,
        channels: tuple[int, int, int] = (48, 96, 224),
        kernels: tuple[tuple[int, ...], ...] = ((5, 5), (7, 7, 7), (7, 9, 7, 9, 7, 9, 7, 9)),
        expansion: int = 3,
    ) -> None:
        super().__init__()
        fine, middle, coarse = channels

        def stage(index: int) -> nn.Sequential:
            return nn.Sequential(
                *(Block(channels[index], kernel, expansion) for kernel in kernels[index])
            )

        self.stem = normalised(nn.Conv2d(3, fine, 7, stride=4, padding=3, bias=False))
        self.fine = stage(0)
        self.to_middle = normalised(nn.Conv2d(fine, middle, 3, stride=2, padding=1, bias=False))
        self.middle = stage(1)
        self.to_coarse = normalised(nn.Conv2d(middle, coarse, 3, stride=2, padding=1, bias=False))
        self.coarse = stage(2)
        self.lines = normalised(nn.Conv2d(middle, EMBEDDING_CHANNELS, 2, stride=2, bias=False))
        self.neck = normalised(nn.Conv2d(coarse, EMBEDDING_CHANNELS, 1, bias=False))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, S, S) float32 to (B, 256, S/16, S/16)."""
        middle = self.middle(self.to_middle(self.fine(self.stem(image))))
        coarse = self.coarse(self.to_coarse(middle))
        embedding: torch.Tensor = self.neck(coarse) + self.lines(middle)
        return embedding
