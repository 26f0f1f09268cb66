"""Model folders with a box channel whose network is one convolution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastseg.artifacts.guidance import BoxPreprocessing
from fastseg.contract import guided_network
from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.export.guided import write_guided_folder
from fastseg.export.model_folder import Card
from fastseg.export.networks.guided import GuidedModules


class Filter(torch.nn.Module):
    """A convolution that stands for a network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = torch.nn.Conv2d(channels, 1, 5, padding=2)
        random = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.filter.weight.copy_(0.3 * torch.randn(self.filter.weight.shape, generator=random))
            self.filter.bias.fill_(1.4)

    def forward(self, image: Any, guidance: Any) -> Any:
        return self.filter(torch.cat([image, guidance], 1))


def write_tiny_specialist(path: Path, rules: BoxPreprocessing) -> Path:
    """Export the network with these rules, and return the path."""
    graph = guided_network(1, channels=rules.channels, size=rules.size)
    modules = GuidedModules(Filter(rules.channels + 1), graph)
    preparation = replace(PREPARATIONS["deeplab-box"], preprocessing=rules)
    write_guided_folder(modules, path, Card(path.name), preparation=preparation)
    return path
