"""Pool of scenes shown several times: a GPU learns from one faster than a CPU draws it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.sam_nano.batches import (
    Batch,
    collate,
    draw_second_form,
    make_batch,
    mask_prompt_generator,
)
from training.sam_nano.cached_scenes import (
    CachedScene,
    PromptGroup,
    PromptRequest,
    draw_cached_scene,
)
from training.sam_nano.plan import Stage, StagePlan

CAPACITY = 256
"""Scenes in the pool; the oldest make room."""

REQUESTS = (
    PromptRequest("point", 32, 0),
    PromptRequest("box", 32, 0),
    PromptRequest("points", 16, 4),
)
"""Prompts of a scene in the pool; each batch takes others of them."""

GAIN, GAMMA = (0.8, 1.1), (0.8, 1.25)
"""Ranges of the brightness augmentation."""


class BatchSource(Protocol):
    """Scenes that are kept elsewhere."""

    def batch(self, stage: Stage, seed: tuple[int, ...]) -> Batch:
        """Collate the scenes of one step; equal for equal seeds."""


class ScenePool:
    """Scenes in the memory of a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._scenes: deque[CachedScene] = deque(maxlen=CAPACITY)

    def add(self, scenes: Iterable[CachedScene]) -> None:
        """Add scenes, which must come with the prompts of ``REQUESTS``."""
        self._scenes.extend(scene.on(self._device) for scene in scenes)

    def batch(self, stage: Stage, seed: tuple[int, ...]) -> Batch:
        """Collate some scenes: half of them mirrored, brightness changed, other prompts."""
        random = np.random.default_rng(seed)
        repeated = len(self._scenes) < stage.scenes
        picked = random.choice(len(self._scenes), stage.scenes, replace=repeated)
        return collate_repeated(random, stage, [self._scenes[index] for index in picked], (0, 0))


def collate_repeated(
    random: np.random.Generator,
    stage: Stage,
    scenes: Sequence[CachedScene],
    corner: tuple[int, int],
) -> Batch:
    """Collate scenes that were shown before: mirrored or not, in other light, with other prompts.

    Args:
        random: Decides all of that.
        stage: The stage of the step.
        scenes: With the prompts of ``REQUESTS``.
        corner: Position of the squares in the 64 x 64 grid: x, y of their first token.
    """
    kind, extra = draw_second_form(random, stage)
    half = stage.prompts // 2
    augmented = []
    for scene in scenes:
        singles, boxes, points = scene.prompt_groups
        first = singles.select(_choose_rows(random, singles, stage.prompts - half))
        if kind == "box":
            second = boxes.select(_choose_rows(random, boxes, half))
        else:
            kept = [*range(1 + extra), -1]  # the last is the padding point in place of a box
            second = points.select(_choose_rows(random, points, half), kept)
        augmented.append(_augment(random, replace(scene, prompt_groups=(first, second))))
    return collate(augmented, stage.side, corner, mask_prompt_generator(random, stage))


def _choose_rows(random: np.random.Generator, group: PromptGroup, wanted: int) -> torch.Tensor:
    count = len(group.labels)
    rows = random.choice(count, wanted, replace=wanted > count)
    return torch.from_numpy(rows).to(group.labels.device)


def _augment(random: np.random.Generator, scene: CachedScene) -> CachedScene:
    if scene.fills_square and random.random() < 0.5:
        scene = scene.mirror()
    return scene.relight(float(random.uniform(*GAIN)), float(random.uniform(*GAMMA)))


class PlanDataset(Dataset["Batch | list[CachedScene]"]):
    """Drawings for the steps of a plan from ``first`` on: a batch, or scenes for the pool.

    Args:
        plan: The plan.
        first: The first step.
        stored: Scenes on disk, for stages that take theirs from there.
    """

    def __init__(self, plan: StagePlan, first: int, stored: BatchSource | None = None) -> None:
        self.plan = plan
        self.first = first
        self.stored = stored

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def __getitem__(self, index: int) -> Batch | list[CachedScene]:
        step = self.first + index
        stage, seed = self.plan.stage(step), (self.plan.seed, step)
        if stage.stored:
            if self.stored is None:
                raise ValueError("this plan takes its scenes from a pool on disk: give --pool")
            return self.stored.batch(stage, seed)
        if not stage.new_scenes:
            return make_batch(stage, seed)
        random = np.random.default_rng(seed)
        return [draw_cached_scene(random, stage, REQUESTS) for _ in range(stage.new_scenes)]


def plan_batches(
    plan: StagePlan,
    first: int,
    workers: int,
    device: torch.device,
    stored: BatchSource | None = None,
) -> Iterator[Batch]:
    """Yield the batches of a plan from step ``first`` on, drawn by ``workers`` processes."""
    drawn = DataLoader(
        PlanDataset(plan, first, stored),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    pool = ScenePool(device)
    for step, new in enumerate(drawn, first):
        if isinstance(new, Batch):
            yield new.on(device)
        else:
            pool.add(new)
            yield pool.batch(plan.stage(step), (plan.seed, step, 2))
