"""Small layers that several of SAM's networks share; attribute names are its weight names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerNorm2d(nn.Module):
    """Layer norm of every pixel over its channels; eps 1e-6, one scale and shift a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map float (N, C, H, W) to the same shape."""
        # Channels last makes it the layer norm that every runtime has as one operator.
        pixels = x.permute(0, 2, 3, 1)
        normal = functional.layer_norm(pixels, self.weight.shape, self.weight, self.bias, eps=1e-6)
        return normal.permute(0, 3, 1, 2)


class FeedForward(nn.Module):
    """Two linear layers with an activation between: the ``mlp`` of a transformer block."""

    def __init__(self, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map float (..., width) to the same shape."""
        hidden: Tensor = self.activation(self.lin1(x))
        out: Tensor = self.lin2(hidden)
        return out


class Head(nn.Module):
    """Three linear layers with an activation between, for masks and scores of output tokens."""

    def __init__(self, width: int, outputs: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.activation = activation or nn.ReLU()
        self.layers = nn.ModuleList(
            [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, outputs)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float (..., width) to (..., outputs)."""
        first, second, last = self.layers
        out: Tensor = last(self.activation(second(self.activation(first(x)))))
        return out


class Operations(nn.Module):
    """Blocks one after the other, under the weight name ``op_list``."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Apply every block in turn."""
        for block in self.op_list:
            x = block(x)
        return x
