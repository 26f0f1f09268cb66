"""A RITM of a few channels in a model folder, with a zoom that small images reach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fastseg.artifacts.guidance import ZoomRules
from fastseg.contract import guided_network
from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.export.guided import write_guided_folder
from fastseg.export.model_folder import Card
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.hrnet import HRNetShape
from fastseg.export.networks.ritm import SIDE_CHANNELS, Ritm, RitmShape
from tests.helpers.reference_ritm import Network, random_weights

SHAPE = RitmShape(HRNetShape(4, 1, (1, 1, 1)), 8)

ZOOM = ZoomRules(side=64, least=40)


def tiny_modules() -> GuidedModules:
    return GuidedModules(random_weights(Ritm(SHAPE)), guided_network(SIDE_CHANNELS))


def write_tiny_ritm(path: Path) -> Any:
    """Write the folder; return the table of its comparison."""
    published = PREPARATIONS["ritm"]
    preparation = replace(published, preprocessing=replace(published.preprocessing, zoom=ZOOM))
    return write_guided_folder(tiny_modules(), path, Card("tiny-ritm"), preparation=preparation)


def reference() -> Network:
    """The same network, plainly."""
    weights = tiny_modules().network.state_dict()
    return Network(weights, SHAPE)
