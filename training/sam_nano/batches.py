"""Batches of one training step: images, prompts, target masks and dense targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastseg import contract
from training.sam_nano import prompts
from training.sam_nano.cached_scenes import (
    PIXELS_PER_MASK_PIXEL,
    CachedScene,
    PromptRequest,
    draw_cached_scene,
)
from training.sam_nano.devices import to_device
from training.sam_nano.plan import Stage

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
PIXEL_DEVIATION = np.array([58.395, 57.12, 57.375], dtype=np.float32)

AFFINITY_STEPS = (2, 4, 8, 16)
"""Distances in mask pixels over which the auxiliary head predicts "same object"."""

DENSE_CHANNELS = 4 + 2 * len(AFFINITY_STEPS)
"""Objectness, boundary, offset to the object's centre (x, y), affinities across and down."""


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts of one form for every image of a batch, those of one image together."""

    coords: Tensor
    """float32 (N, points, 2) in pixels of the 1024 square."""

    labels: Tensor
    """int32 (N, points)."""

    mask_prompts: Tensor | None
    """float32 (N, 1, side / 4, side / 4) logits of mask prompts, or None."""

    targets: Tensor
    """float32 (N, side / 4, side / 4): the share of each mask pixel that the object covers."""

    @property
    def has_boxes(self) -> bool:
        """True if the prompts have boxes; those of one form all do, or none does."""
        return bool((self.labels[:, -1] == contract.LABEL_BOX_BOTTOM_RIGHT).all())

    @property
    def is_unambiguous(self) -> bool:
        """True if the prompts leave little doubt: boxes, or several points."""
        return self.has_boxes or self.labels.shape[1] > 2


@dataclass(frozen=True, slots=True)
class Batch:
    """The input of one training step."""

    images: Tensor
    """float32 (B, 3, side, side), normalised."""

    corner: tuple[int, int]
    """Position of the images in the 64 x 64 grid: x, y of their first token."""

    prompts: tuple[PromptBatch, ...]

    dense: Tensor
    """float32 (B, DENSE_CHANNELS, side / 4, side / 4); NaN where nothing is known."""

    def on(self, device: torch.device) -> Batch:
        """Return the batch in the memory of a device."""
        return to_device(self, device)


def draw_mask_prompts(targets: Tensor, random: torch.Generator) -> Tensor:
    """Draw mask prompts (N, 1, h, w): targets (N, h, w) shifted, blurred, cut at a wrong level."""
    count = len(targets)
    shifts = torch.randint(-2, 3, (count, 2), generator=random).tolist()
    shifted = [target.roll(shift, (0, 1)) for target, shift in zip(targets, shifts, strict=True)]
    blurred = functional.avg_pool2d(torch.stack(shifted)[:, None], 3, stride=1, padding=1)
    level, gain = torch.rand(2, count, 1, 1, 1, generator=random).to(targets.device)
    return (blurred - (0.3 + 0.4 * level)) * (8 + 16 * gain)


def dense_targets(owners: Tensor) -> Tensor:
    """Compute the auxiliary targets of every mask pixel from object numbers (h, w).

    They are NaN where ``prompts.UNKNOWN`` leaves them open.
    """
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
    planes[:, owners == prompts.UNKNOWN] = float("nan")
    return planes


def normalise(image: Tensor, side: int) -> Tensor:
    """Map an image uint8 (h, w, 3) to float32 (3, side, side), padded with zeros."""
    mean, deviation = (
        torch.from_numpy(values).to(image.device) for values in (PIXEL_MEAN, PIXEL_DEVIATION)
    )
    planes = ((image.float() - mean) / deviation).permute(2, 0, 1)
    return functional.pad(planes, (0, side - image.shape[1], 0, side - image.shape[0]))


def collate(
    scenes: Sequence[CachedScene],
    side: int,
    corner: tuple[int, int],
    random: torch.Generator | None,
) -> Batch:
    """Put scenes with the same forms of prompts together.

    Args:
        scenes: All on one device.
        side: Side of the square that each image is padded to.
        corner: Position of the squares in the 64 x 64 grid: x, y of their first token.
        random: Draws mask prompts for every form but the first; None draws none.
    """
    offset = torch.tensor(corner, dtype=torch.float32, device=scenes[0].image.device) * 16
    batches = []
    for form in range(len(scenes[0].prompt_groups)):
        groups = [scene.prompt_groups[form] for scene in scenes]
        coords, labels = (
            torch.cat(parts)
            for parts in ([group.coords for group in groups], [group.labels for group in groups])
        )
        coords = torch.where((labels == contract.LABEL_PADDING)[..., None], coords, coords + offset)
        coverage = [
            scene.coverage[group.objects] for scene, group in zip(scenes, groups, strict=True)
        ]
        targets = torch.cat(coverage).float() / PIXELS_PER_MASK_PIXEL
        mask_prompts = draw_mask_prompts(targets, random) if form and random else None
        batches.append(PromptBatch(coords, labels, mask_prompts, targets))
    return Batch(
        torch.stack([normalise(scene.image, side) for scene in scenes]),
        corner,
        tuple(batches),
        torch.stack([dense_targets(scene.owners) for scene in scenes]),
    )


def draw_second_form(random: np.random.Generator, stage: Stage) -> tuple[prompts.PromptKind, int]:
    """Draw the kind of the second half of a step's prompts, and the corrections of points."""
    kind: prompts.PromptKind = "box" if random.random() < stage.boxes else "points"
    return kind, int(random.integers(1, 5))


def mask_prompt_generator(random: np.random.Generator, stage: Stage) -> torch.Generator | None:
    """Return the generator of a step's mask prompts, or None if the step has none."""
    if random.random() >= stage.mask_prompts:
        return None
    return torch.Generator().manual_seed(int(random.integers(2**31)))


def make_batch(stage: Stage, seed: tuple[int, int]) -> Batch:
    """Draw the batch of one step; the same seed gives the same batch."""
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 64 - stage.side // 16 + 1, 2).tolist()
    kind, extra = draw_second_form(random, stage)
    half = stage.prompts // 2
    requests = (PromptRequest("point", stage.prompts - half, 0), PromptRequest(kind, half, extra))
    scenes = [draw_cached_scene(random, stage, requests) for _ in range(stage.scenes)]
    return collate(scenes, stage.side, (x, y), mask_prompt_generator(random, stage))
