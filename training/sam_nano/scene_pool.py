"""Pool of scenes shown several times: a GPU learns from one faster than a CPU draws it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

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
from training.sam_nano.cached_scenes import CachedScene, PromptRequest, draw_cached_scene
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
        kind, extra = draw_second_form(random, stage)
        repeated = len(self._scenes) < stage.scenes
        picked = random.choice(len(self._scenes), stage.scenes, replace=repeated)
        half = stage.prompts // 2
        augmented = []
        for scene in (self._scenes[index] for index in picked):
            singles, boxes, points = scene.prompt_groups
            first = singles.select(
                self._choose_rows(random, len(singles.labels), stage.prompts - half)
            )
            if kind == "box":
                second = boxes.select(self._choose_rows(random, len(boxes.labels), half))
            else:
                kept = [*range(1 + extra), -1]  # the last is the padding point in place of a box
                second = points.select(self._choose_rows(random, len(points.labels), half), kept)
            augmented.append(self._augment(random, replace(scene, prompt_groups=(first, second))))
        return collate(augmented, stage.side, (0, 0), mask_prompt_generator(random, stage))

    def _choose_rows(self, random: np.random.Generator, count: int, wanted: int) -> torch.Tensor:
        rows = random.choice(count, wanted, replace=wanted > count)
        return torch.from_numpy(rows).to(self._device)

    @staticmethod
    def _augment(random: np.random.Generator, scene: CachedScene) -> CachedScene:
        if scene.fills_square and random.random() < 0.5:
            scene = scene.mirror()
        return scene.relight(float(random.uniform(*GAIN)), float(random.uniform(*GAMMA)))


class PlanDataset(Dataset["Batch | list[CachedScene]"]):
    """Drawings for the steps of a plan from ``first`` on: a batch, or scenes for the pool."""

    def __init__(self, plan: StagePlan, first: int) -> None:
        self.plan = plan
        self.first = first

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def __getitem__(self, index: int) -> Batch | list[CachedScene]:
        step = self.first + index
        stage, seed = self.plan.stage(step), (self.plan.seed, step)
        if not stage.new_scenes:
            return make_batch(stage, seed)
        random = np.random.default_rng(seed)
        return [draw_cached_scene(random, stage, REQUESTS) for _ in range(stage.new_scenes)]


def plan_batches(
    plan: StagePlan, first: int, workers: int, device: torch.device
) -> Iterator[Batch]:
    """Yield the batches of a plan from step ``first`` on, drawn by ``workers`` processes."""
    drawn = DataLoader(
        PlanDataset(plan, first),
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
