"""What one training step sees: pictures, prompts, answers and dense targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastseg import contract
from training.sam_nano import prompts
from training.sam_nano.cached_scenes import SIXTEENTHS, Asking, Page, draw_page
from training.sam_nano.devices import moved
from training.sam_nano.plan import Stage

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
PIXEL_DEVIATION = np.array([58.395, 57.12, 57.375], dtype=np.float32)

AFFINITY_STEPS = (2, 4, 8, 16)
"""Distances, in mask pixels, over which the encoder says whether two places are one object."""

DENSE_CHANNELS = 4 + 2 * len(AFFINITY_STEPS)
"""Objectness, boundary, the way to the object's centre (x, y), affinities across and down."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Prompts of one form for every picture of a batch, those of one picture together."""

    coords: Tensor
    """float32 (N, points, 2) in pixels of the 1024 square."""

    labels: Tensor
    """int32 (N, points)."""

    rough: Tensor | None
    """float32 (N, 1, side / 4, side / 4) logits of a mask prompt, or None."""

    targets: Tensor
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

    images: Tensor
    """float32 (B, 3, side, side), normalised."""

    corner: tuple[int, int]
    """Where in the 64 x 64 grid the pictures lie: x, y of their first token."""

    questions: tuple[Questions, ...]

    dense: Tensor
    """float32 (B, DENSE_CHANNELS, side / 4, side / 4)."""

    def on(self, device: torch.device) -> Batch:
        """The same in the memory of a device."""
        return moved(self, device)


def rough_masks(targets: Tensor, random: torch.Generator) -> Tensor:
    """Mask prompts (N, 1, h, w): answers (N, h, w) shifted, blurred and cut at a wrong level."""
    count = len(targets)
    shifts = torch.randint(-2, 3, (count, 2), generator=random).tolist()
    moved = [target.roll(shift, (0, 1)) for target, shift in zip(targets, shifts, strict=True)]
    blurred = functional.avg_pool2d(torch.stack(moved)[:, None], 3, stride=1, padding=1)
    level, gain = torch.rand(2, count, 1, 1, 1, generator=random).to(targets.device)
    return (blurred - (0.3 + 0.4 * level)) * (8 + 16 * gain)


def dense_targets(owners: Tensor) -> Tensor:
    """What the encoder is told about every mask pixel, from whole-object numbers (h, w)."""
    height, width = owners.shape
    planes = torch.zeros(DENSE_CHANNELS, height, width, device=owners.device)
    planes[0] = owners > 0
    planes[1, :, 1:] = owners[:, 1:] != owners[:, :-1]
    planes[1, 1:] = torch.maximum(planes[1, 1:], (owners[1:] != owners[:-1]).float())
    numbers = owners.clamp(min=0).long()
    counts = torch.bincount(numbers.flatten()).clamp(min=1)
    rows, columns = (torch.arange(size, device=owners.device) for size in owners.shape)
    for channel, axis in ((2, columns.expand(height, -1)), (3, rows[:, None].expand(-1, width))):
        sums = torch.bincount(numbers.flatten(), weights=axis.flatten().double())
        centres = (sums / counts).float()
        planes[channel] = ((centres[numbers] - axis) / 16).clamp(-3, 3)
    for index, step in enumerate(AFFINITY_STEPS):
        planes[4 + 2 * index, :, :-step] = owners[:, step:] == owners[:, :-step]
        planes[5 + 2 * index, :-step] = owners[step:] == owners[:-step]
    return planes


def normalised(image: Tensor, side: int) -> Tensor:
    """Map a picture uint8 (h, w, 3) to float32 (3, side, side), padded with zeros."""
    mean, deviation = (
        torch.from_numpy(values).to(image.device) for values in (PIXEL_MEAN, PIXEL_DEVIATION)
    )
    planes = ((image.float() - mean) / deviation).permute(2, 0, 1)
    return functional.pad(planes, (0, side - image.shape[1], 0, side - image.shape[0]))


def bind(
    pages: Sequence[Page], side: int, corner: tuple[int, int], rough: torch.Generator | None
) -> Batch:
    """Put pages with the same forms of prompts together.

    Args:
        pages: All on one device.
        side: Of the square that each picture is padded to.
        corner: Where in the 64 x 64 grid the squares lie: x, y of their first token.
        rough: Draws mask prompts for every form but the first; without it there are none.
    """
    offset = torch.tensor(corner, dtype=torch.float32, device=pages[0].image.device) * 16
    questions = []
    for form in range(len(pages[0].asked)):
        asked = [page.asked[form] for page in pages]
        coords, labels = (
            torch.cat(parts) for parts in ([a.coords for a in asked], [a.labels for a in asked])
        )
        coords = torch.where((labels == contract.LABEL_PADDING)[..., None], coords, coords + offset)
        covers = [page.covers[a.objects] for page, a in zip(pages, asked, strict=True)]
        targets = torch.cat(covers).float() / SIXTEENTHS
        given = rough_masks(targets, rough) if form and rough else None
        questions.append(Questions(coords, labels, given, targets))
    return Batch(
        torch.stack([normalised(page.image, side) for page in pages]),
        corner,
        tuple(questions),
        torch.stack([dense_targets(page.owners) for page in pages]),
    )


def second_form(random: np.random.Generator, stage: Stage) -> tuple[prompts.Kind, int]:
    """What the second half of a step's prompts are, and with how many corrections if points."""
    kind: prompts.Kind = "box" if random.random() < stage.boxes else "points"
    return kind, int(random.integers(1, 5))


def rough_or_none(random: np.random.Generator, stage: Stage) -> torch.Generator | None:
    """What draws the step's mask prompts, if it has any."""
    if random.random() >= stage.rough:
        return None
    return torch.Generator().manual_seed(int(random.integers(2**31)))


def make_batch(stage: Stage, seed: tuple[int, int]) -> Batch:
    """Draw the batch of one step; the same seed gives the same batch."""
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 64 - stage.side // 16 + 1, 2).tolist()
    kind, extra = second_form(random, stage)
    half = stage.prompts // 2
    askings = (Asking("click", stage.prompts - half, 0), Asking(kind, half, extra))
    pages = [draw_page(random, stage, askings) for _ in range(stage.scenes)]
    return bind(pages, stage.side, (x, y), rough_or_none(random, stage))
