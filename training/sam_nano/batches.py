"""What one training step sees: pictures, prompts, answers and dense targets, made from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fastseg import contract
from training.sam_nano import prompts, scenes, variety
from training.sam_nano.plan import Plan, Stage

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
PIXEL_DEVIATION = np.array([58.395, 57.12, 57.375], dtype=np.float32)

AFFINITY_STEPS = (2, 4, 8, 16)
"""Distances, in mask pixels, over which the encoder says whether two places are one object."""

DENSE_CHANNELS = 4 + 2 * len(AFFINITY_STEPS)
"""Objectness, boundary, the way to the object's centre (x, y), affinities across and down."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Prompts of one form for every picture of a batch, those of one picture together."""

    coords: torch.Tensor
    """float32 (N, points, 2) in pixels of the 1024 square."""

    labels: torch.Tensor
    """int32 (N, points)."""

    rough: torch.Tensor | None
    """float32 (N, 1, side / 4, side / 4) logits of a mask prompt, or None."""

    targets: torch.Tensor
    """float32 (N, side / 4, side / 4): the share of each mask pixel that the object covers."""

    @property
    def boxed(self) -> bool:
        """Whether the prompts have boxes; those of one form all do, or none does."""
        return bool((self.labels[:, -1] == contract.LABEL_BOX_BOTTOM_RIGHT).all())

    @property
    def sure(self) -> bool:
        """Whether the prompts leave little doubt: boxes, or several points."""
        return self.boxed or self.labels.shape[1] > 2


@dataclass(frozen=True, slots=True)
class Batch:
    """One training step's input."""

    images: torch.Tensor
    """float32 (B, 3, side, side), normalised."""

    corner: tuple[int, int]
    """Where in the 64 x 64 grid the pictures lie: x, y of their first token."""

    questions: tuple[Questions, ...]

    dense: torch.Tensor
    """float32 (B, DENSE_CHANNELS, side / 4, side / 4)."""


def coarse(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean over 4 x 4 pixels."""
    height, width = mask.shape
    blocks = mask.reshape(height // 4, 4, width // 4, 4).astype(np.float32)
    return blocks.mean(axis=(1, 3))


def _rough(random: np.random.Generator, target: NDArray[np.float32]) -> NDArray[np.float32]:
    """A mask prompt: the answer shifted, blurred and cut at a wrong level."""
    shift = random.integers(-2, 3, 2)
    moved = np.roll(target, tuple(int(s) for s in shift), axis=(0, 1))
    blurred = (
        sum(np.roll(moved, (dy, dx), axis=(0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / 9
    )
    logits = (blurred - random.uniform(0.3, 0.7)) * random.uniform(8, 24)
    return np.asarray(logits, dtype=np.float32)


def dense_targets(labels: NDArray[np.int16]) -> NDArray[np.float32]:
    """What the encoder is told about every mask pixel, from whole-object labels (h, w)."""
    height, width = labels.shape
    planes = np.zeros((DENSE_CHANNELS, height, width), dtype=np.float32)
    planes[0] = labels > 0
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    planes[1, :, 1:] += across
    planes[1, 1:] += down
    planes[1] = planes[1] > 0
    y, x = np.mgrid[:height, :width].astype(np.float32)
    flat = np.maximum(labels, 0).ravel()
    counts = np.maximum(np.bincount(flat), 1)
    for channel, axis in ((2, x), (3, y)):
        centres = (np.bincount(flat, weights=axis.ravel()) / counts).astype(np.float32)
        planes[channel] = np.clip((centres[np.maximum(labels, 0)] - axis) / 16, -3, 3)
    for index, step in enumerate(AFFINITY_STEPS):
        planes[4 + 2 * index, :, :-step] = labels[:, step:] == labels[:, :-step]
        planes[5 + 2 * index, :-step] = labels[step:] == labels[:-step]
    return planes


def _scene(random: np.random.Generator, side: int, varied: bool) -> scenes.Scene:
    """A scene with at least one target, sometimes ending before the square does."""
    while True:
        height = width = side
        if random.random() < 0.25:  # padding below or to the right, as wide pictures have
            kept = int(side * random.uniform(0.5, 0.95))
            height, width = (kept, side) if random.random() < 0.6 else (side, kept)
        draw = variety.generate if varied else scenes.generate
        scene = draw(random, (height, width))
        if prompts.targets(scene):
            return scene


class Asking(NamedTuple):
    """What to ask about a scene: how many prompts of a kind, with how many corrections."""

    kind: prompts.Kind
    count: int
    extra: int


def _ask(
    random: np.random.Generator, scene: scenes.Scene, asking: Asking, stage: Stage
) -> list[prompts.Prompt]:
    masks = prompts.targets(scene)
    weights = np.array([mask.sum() for mask in masks]) ** stage.leaning
    background = scene.labels == 0
    picked = random.choice(len(masks), asking.count, p=weights / weights.sum())
    asked = []
    for index in picked:
        mask = masks[index]
        if asking.kind == "click" and random.random() < 0.06 and background.mean() > 0.1:
            mask = background
        slack = random.choice(prompts.SLACKS) if stage.varied else prompts.USUAL_SLACK
        asked.append(prompts.sample(random, mask, asking.kind, asking.extra, float(slack)))
    return asked


def _padded(plane: NDArray[np.generic], side: int, value: float) -> NDArray[np.generic]:
    below, right = side - plane.shape[0], side - plane.shape[1]
    widths = ((0, below), (0, right)) + ((0, 0),) * (plane.ndim - 2)
    return np.pad(plane, widths, constant_values=value)


def make_batch(stage: Stage, seed: tuple[int, int]) -> Batch:
    """Generate the batch of one step; the same seed gives the same batch."""
    random = np.random.default_rng(seed)
    side, grid = stage.side, stage.side // 16
    corner = random.integers(0, 64 - grid + 1, 2)
    offset = (16 * corner).astype(np.float32)
    drawn = [_scene(random, side, stage.varied) for _ in range(stage.scenes)]
    images = [_padded((s.image - PIXEL_MEAN) / PIXEL_DEVIATION, side, 0.0) for s in drawn]
    second: prompts.Kind = "box" if random.random() < stage.boxes else "points"
    groups = []
    half = stage.prompts // 2
    for kind, count in (("click", stage.prompts - half), (second, half)):
        extra = int(random.integers(1, 5))
        asked = [p for s in drawn for p in _ask(random, s, Asking(kind, count, extra), stage)]
        targets = np.stack([coarse(_padded(p.target, side, 0)) for p in asked])
        rough = None
        if kind != "click" and random.random() < stage.rough:
            rough = torch.from_numpy(np.stack([_rough(random, t) for t in targets])[:, None])
        coords = np.stack([p.coords for p in asked])
        labels = np.stack([p.labels for p in asked])
        coords = np.where((labels == contract.LABEL_PADDING)[..., None], coords, coords + offset)
        groups.append(
            Questions(
                torch.from_numpy(coords.astype(np.float32)),
                torch.from_numpy(labels),
                rough,
                torch.from_numpy(targets),
            )
        )
    dense = []
    for scene in drawn:
        owners = scene.wholes[scene.labels].astype(np.int16)
        dense.append(dense_targets(_padded(owners, side, prompts.PADDED)[2::4, 2::4]))
    return Batch(
        torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)),
        (int(corner[0]), int(corner[1])),
        tuple(groups),
        torch.from_numpy(np.stack(dense)),
    )


class Batches(Dataset[Batch]):
    """The batches of a plan by step number, from ``first`` on; made by a worker process."""

    def __init__(self, plan: Plan, first: int) -> None:
        self.plan = plan
        self.first = first

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        step = self.first + index
        return make_batch(self.plan.stage(step), (self.plan.seed, step))
