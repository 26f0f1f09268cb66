"""Self-learning: a network learns weak labels, then its own predictions, without manual labels.

The rounds are those of Ferreira et al., Nat Commun 16, 4070 (2025). A network that trains briefly
on few frames learns the common part of weak labels before their errors; its predictions are then
better labels than those that it was trained with, and there are more of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastseg.errors import ImageError
from fastseg.export.networks.unet import UNet
from training.dice import soft_dice
from training.echo.labelling import Labels
from training.echo.own_frames import OwnFrames

FRAMES_PER_RUN = 8
"""Frames of one run of the network."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Share of the frames, epochs and learning rate of the rounds."""

    share: float = 0.3
    """Share of the accepted frames in the first round."""
    validation: float = 0.2
    """Share of those that are kept back to choose the best epoch."""
    epochs: tuple[int, int] = (5, 3)
    """Epochs of the first and the second round."""
    batch: int = 32
    rate: float = 1e-4
    """Adam's learning rate."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """Losses of one pass over the training frames, from 0 (perfect) to 1."""

    training: float
    validation: float


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of a ``Labels``: those to train on, and those to choose the best epoch by."""

    training: list[int]
    validation: list[int]


def split(labels: Labels, groups: Sequence[str], schedule: Schedule, *, share: float) -> Split:
    """Draw a share of the labels, and keep whole groups of them back for validation.

    Args:
        labels: The labels to split.
        groups: Group of every frame, labelled or not; frames of one group stay together.
        schedule: Share for validation and seed.
        share: Share of the labels to use at all.

    Raises:
        ImageError: They are too few, or all of one group, so that nothing could be kept back.
    """
    random = np.random.default_rng(schedule.seed)
    count = int(np.ceil(share * len(labels)))
    drawn = sorted(random.permutation(len(labels))[:count].tolist())
    group_of = {index: groups[labels.frames[index]] for index in drawn}
    kept: set[str] = set()
    for group in random.permutation(sorted(set(group_of.values()))).tolist():
        if sum(group_of[index] in kept for index in drawn) >= schedule.validation * count:
            break
        kept.add(group)
    parts = Split(
        [index for index in drawn if group_of[index] not in kept],
        [index for index in drawn if group_of[index] in kept],
    )
    if not parts.training or not parts.validation:
        reasons = ", ".join(f"{why} ({n})" for why, n in labels.refused.most_common(3))
        raise ImageError(
            f"{len(labels)} frames got a usable label, {count} of them were drawn, and that is not "
            f"enough to train on and to keep some back. Refused: {reasons or 'none'}. "
            "Give more frames of this view, or check their scale."
        )
    return parts


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Frames with their labels, read at each access."""

    def __init__(self, frames: OwnFrames, labels: Labels, indices: Sequence[int]) -> None:
        self.frames = frames
        self.labels = labels
        self.indices = indices

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read float32 (channels, 256, 256) and (classes, 256, 256)."""
        label = self.indices[index]
        frame = self.frames[self.labels.frames[label]]
        return torch.from_numpy(frame), torch.from_numpy(self.labels[label].astype(np.float32))


def learn(
    network: UNet, examples: tuple[Examples, Examples], schedule: Schedule, epochs: int
) -> list[Epoch]:
    """Train a network in place, and leave it as it was after its best epoch.

    Args:
        network: The network, on the device to train on.
        examples: Examples for training and for validation.
        schedule: Batch, learning rate and seed.
        epochs: Passes over the training examples.

    Returns:
        The losses of every epoch.
    """
    device = next(network.parameters()).device
    shuffling = torch.Generator().manual_seed(schedule.seed)
    training = DataLoader(examples[0], schedule.batch, shuffle=True, generator=shuffling)
    validation = DataLoader(examples[1], schedule.batch)
    optimiser = torch.optim.Adam(network.parameters(), lr=schedule.rate)
    curve: list[Epoch] = []
    best = copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        network.train()
        losses = []
        for frames, targets in training:
            loss = _loss(network, frames.to(device), targets.to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
        now = Epoch(float(np.mean(losses)), _validate(network, validation))
        if not curve or now.validation < min(epoch.validation for epoch in curve):
            best = copy.deepcopy(network.state_dict())
        curve.append(now)
    network.load_state_dict(best)
    return curve


@torch.no_grad()
def _validate(network: UNet, examples: DataLoader[tuple[Tensor, Tensor]]) -> float:
    device = next(network.parameters()).device
    network.eval()
    losses = [
        float(_loss(network, frames.to(device), targets.to(device))) for frames, targets in examples
    ]
    return float(np.mean(losses))


def _loss(network: UNet, frames: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the mean soft Dice of the classes, as published."""
    return 1 - soft_dice(network(frames).sigmoid(), targets).mean()


@torch.no_grad()
def predict(network: UNet, frames: OwnFrames) -> Iterator[NDArray[np.float32]]:
    """Yield a network's probabilities of all frames in batches: float32 (n, classes, 256, 256)."""
    device = next(network.parameters()).device
    network.eval()
    for first in range(0, len(frames), FRAMES_PER_RUN):
        batch = [frames[index] for index in range(first, min(first + FRAMES_PER_RUN, len(frames)))]
        yield network(torch.from_numpy(np.stack(batch)).to(device)).sigmoid().cpu().numpy()
