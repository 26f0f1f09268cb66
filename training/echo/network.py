"""The joint network of all views in training, and the network of each view."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fastseg.export.networks.unet import UNet
from training.echo.heart import CHANNELS, CLASSES, VIEWS, View


def joint_network(width: int) -> UNet:
    """Build a network whose output channels are those of all views, one after another."""
    return UNet(max(CHANNELS.values()), sum(map(len, CLASSES.values())), width)


def read_joint(weights: Path) -> UNet:
    """Read the joint network of a run."""
    stored = load_file(weights)
    network = joint_network(len(stored["head.weight"][0]))
    network.load_state_dict(stored)
    return network


def output_channels(view: View) -> slice:
    """Return the channels of a view in the joint network's output."""
    before = VIEWS[: VIEWS.index(view)]
    start = sum(len(CLASSES[earlier]) for earlier in before)
    return slice(start, start + len(CLASSES[view]))


def view_network(joint: UNet, view: View, width: int) -> UNet:
    """Build the network of one view with the joint network's weights.

    A view of one channel was shown to the joint network with chromas of 0, so that leaving
    these out changes nothing.
    """
    network = UNet(CHANNELS[view], len(CLASSES[view]), width)
    weights = dict(joint.state_dict())
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][output_channels(view)]
    weights["down.0.0.weight"] = weights["down.0.0.weight"][:, : CHANNELS[view]]
    network.load_state_dict(weights)
    return network


class RunningAverage:
    """A running average of a network's weights: short at first, about 300 steps in the end."""

    def __init__(self, network: UNet) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.updates = 0

    @torch.no_grad()
    def update(self, network: UNet) -> None:
        """Move towards the network's present weights."""
        self.updates += 1
        share = 1 - min(0.9967, self.updates / (self.updates + 9))
        for mean, now in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(now, share)


def predict(network: UNet, frames: Tensor) -> Tensor:
    """Predict probabilities (n, classes, side, side) of frames (n, channels, side, side)."""
    with torch.inference_mode():
        return torch.sigmoid(network(frames))
