"""Batches of phantoms: the same for the same seed, task and step."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from training.echo.heart import CHANNELS, View
from training.echo.phantom import Phantom, generate
from training.echo.plan import TrainingTask
from training.echo.sector import SIDE


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames of one or several views."""

    frames: Tensor
    """(n, channels, side, side) float32 in [0, 1]; views of fewer channels are padded with 0."""
    masks: tuple[Tensor, ...]
    """For each view of the task (frames of it, its classes, side, side) float32, 0 or 1."""


def make_batch(task: TrainingTask, seed: int, step: int) -> Batch:
    """Draw the phantoms of one step."""
    random = np.random.default_rng((seed, zlib.crc32(task.name.encode()), step))
    drawn = [
        [_window(random, generate(random, view), task.window) for _ in range(count)]
        for view, count in task.views
    ]
    channels = max(CHANNELS[view] for view, _ in task.views)
    frames = [_pad(phantom, channels) for phantoms in drawn for phantom in phantoms]
    masks = (torch.from_numpy(np.stack([p.masks for p in phantoms])) for phantoms in drawn)
    return Batch(torch.stack(frames), tuple(stack.float() for stack in masks))


def _window(random: np.random.Generator, phantom: Phantom, size: tuple[int, int]) -> Phantom:
    """Cut a part of a phantom about its chambers, or all of it."""
    bounds = []
    for axis, length in enumerate(size):
        seen = np.flatnonzero(phantom.masks.any(axis=(0, 2 - axis)))
        middle = float(seen.mean()) if len(seen) else SIDE / 2
        start = round(middle - length / 2 + random.uniform(-28, 28))
        start = min(max(start, 0), SIDE - length)
        bounds.append(slice(start, start + length))
    rows, columns = bounds
    return Phantom(phantom.frame[:, rows, columns], phantom.masks[:, rows, columns])


def _pad(phantom: Phantom, channels: int) -> Tensor:
    frame = torch.zeros(channels, *phantom.frame.shape[1:])
    frame[: len(phantom.frame)] = torch.from_numpy(phantom.frame)
    return frame


def held_out(view: View, count: int, seed: int = 99_991) -> list[Phantom]:
    """Draw phantoms of a view that no training step draws."""
    return [generate(np.random.default_rng((seed, i)), view) for i in range(count)]


class Batches(IterableDataset[Batch]):
    """The batches of a task from a step on; a worker makes them ahead."""

    def __init__(self, task: TrainingTask, seed: int, start: int) -> None:
        super().__init__()
        self.task, self.seed, self.start = task, seed, start

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        for step in range(self.start, self.task.steps):
            yield make_batch(self.task, self.seed, step)
