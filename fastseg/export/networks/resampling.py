"""Enlargement of feature maps as matrix products."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class BicubicResize(nn.Module):
    """Bicubic interpolation of square maps between two sides, with pixel centres aligned.

    Both axes are multiplied by one matrix, which runtimes do several times faster than their own
    interpolation.

    Args:
        before: Side of the map.
        after: Side of the result.
    """

    matrix: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.same = before == after
        lines = torch.eye(before, device="cpu")[None, None]
        found = functional.interpolate(lines, (after, before), mode="bicubic", align_corners=False)
        self.register_buffer("matrix", found[0, 0], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (B, C, before, before) to (B, C, after, after)."""
        if self.same:
            return x
        return self.matrix @ x @ self.matrix.T
