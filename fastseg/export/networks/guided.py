"""A network whose prompts are channels of its input, with the contract of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from fastseg.contract import GraphSpec


@dataclass(frozen=True, slots=True)
class GuidedModules:
    """The torch module of a guided network."""

    network: nn.Module
    """Takes ``image`` and ``guidance`` and returns ``logits``, see ``contract.guided_network``."""

    graph: GraphSpec

    def by_prefix(self) -> Mapping[str, nn.Module]:
        """Return the parts of the network by the first word of their weights' names."""
        return dict(self.network.named_children())
