"""Self-learning: a network learns weak labels, then its own answers; nobody draws anything.

The rounds are those of Ferreira et al., Nat Commun 16, 4070 (2025). A network that sees little, and
for a short time, learns what weak labels have in common before it learns where they are wrong; its
answers are then better labels than those that it was taught with, and there are more of them.
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
from training.echo.labelling import Labels
from training.echo.losses import soft_dice
from training.echo.own_frames import OwnFrames

TOGETHER = 8
"""Frames that are predicted at once."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, how fast and on how much is learnt."""

    share: float = 0.3
    """Of the accepted frames that the first round sees."""
    validation: float = 0.2
    """Of those, kept back to choose the best epoch."""
    epochs: tuple[int, int] = (5, 3)
    """Of the first and the second round."""
    batch: int = 32
    rate: float = 1e-4
    """Adam's learning rate."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training frames cost, 0 perfect to 1."""

    training: float
    validation: float


@dataclass(frozen=True, slots=True)
class Split:
    """Places in a ``Labels``: those to learn from, and those to choose the best epoch by."""

    training: list[int]
    validation: list[int]


def split(labels: Labels, groups: Sequence[str], schedule: Schedule, *, share: float) -> Split:
    """Draw a share of the labels, and keep whole groups of them back for validation.

    Args:
        labels: What there is.
        groups: Of every frame, labelled or not; frames of one group stay together.
        schedule: Gives the part for validation and the seed.
        share: Of the labels that are used at all.

    Raises:
        ImageError: They are too few, or all of one group, so that nothing could be kept back.
    """
    random = np.random.default_rng(schedule.seed)
    count = int(np.ceil(share * len(labels)))
    drawn = sorted(random.permutation(len(labels))[:count].tolist())
    belongs = {place: groups[labels.frames[place]] for place in drawn}
    kept: set[str] = set()
    for group in random.permutation(sorted(set(belongs.values()))).tolist():
        if sum(belongs[place] in kept for place in drawn) >= schedule.validation * count:
            break
        kept.add(group)
    parts = Split(
        [place for place in drawn if belongs[place] not in kept],
        [place for place in drawn if belongs[place] in kept],
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
    """Frames with their labels, read when they are needed."""

    def __init__(self, frames: OwnFrames, labels: Labels, places: Sequence[int]) -> None:
        self.frames = frames
        self.labels = labels
        self.places = places

    def __len__(self) -> int:
        """How many there are."""
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """float32 (channels, 256, 256) and (classes, 256, 256)."""
        place = self.places[index]
        frame = self.frames[self.labels.frames[place]]
        return torch.from_numpy(frame), torch.from_numpy(self.labels[place].astype(np.float32))


def learn(
    network: UNet, examples: tuple[Examples, Examples], schedule: Schedule, epochs: int
) -> list[Epoch]:
    """Train a network in place, and leave it as it was after its best epoch.

    Args:
        network: On the device to train on.
        examples: For training and for validation.
        schedule: Batch, learning rate and seed.
        epochs: Passes over the training examples.

    Returns:
        The losses of every epoch.
    """
    device = next(network.parameters()).device
    order = torch.Generator().manual_seed(schedule.seed)
    training = DataLoader(examples[0], schedule.batch, shuffle=True, generator=order)
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
    """One minus the mean soft Dice of the classes, alone as published."""
    return 1 - soft_dice(network(frames).sigmoid(), targets).mean()


@torch.no_grad()
def predict(network: UNet, frames: OwnFrames) -> Iterator[NDArray[np.float32]]:
    """A network's probabilities for all frames, in batches: float32 (n, classes, 256, 256)."""
    device = next(network.parameters()).device
    network.eval()
    for first in range(0, len(frames), TOGETHER):
        batch = [frames[index] for index in range(first, min(first + TOGETHER, len(frames)))]
        yield network(torch.from_numpy(np.stack(batch)).to(device)).sigmoid().cpu().numpy()
