"""The high-pass image of SAM-Adapter (Chen et al. 2023), by products of matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

PART = 4
"""Side of the image over the half width of the square of frequencies that is taken out: a quarter
of all frequencies."""


class HighPass(nn.Module):
    """The absolute value of an image without its low frequencies.

    Those are k = -side / 4 to side / 4 - 1 along each axis of its discrete Fourier transform. They
    are taken out by products with constant matrices, as runtimes lack Fourier transforms.

    Args:
        side: Height and width of the image in pixels, a multiple of 4.
    """

    even: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        half = side // PART
        # The projection on the low frequencies is p(x - y) = sum of e^(2 pi i k (x - y) / side) /
        # side. The frequency -half has no partner, so p is not real: it is even + i left right'.
        places = torch.arange(side, device="cpu", dtype=torch.float64)
        turns = 2 * math.pi / side
        apart = turns * torch.arange(side, device="cpu", dtype=torch.float64)
        steps = torch.arange(1, half, device="cpu", dtype=torch.float64)
        wave = 1 + 2 * torch.cos(apart[:, None] * steps).sum(1) + torch.cos(apart * half)
        index = torch.arange(side, device="cpu")
        even = (wave / side)[(index[:, None] - index) % side]
        sine, cosine = torch.sin(turns * half * places), torch.cos(turns * half * places)
        left = torch.stack([sine, cosine], 1)
        right = torch.stack([-cosine, sine]) / side
        for name, matrix in (("even", even), ("left", left), ("right", right)):
            self.register_buffer(name, matrix.float(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map float (B, C, side, side) to the same shape."""
        low = self.even @ image @ self.even  # it is symmetric
        odd = self.left @ (self.right @ image @ self.right.T) @ self.left.T
        return (image - (low - odd)).abs()
