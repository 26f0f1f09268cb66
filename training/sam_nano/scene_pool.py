"""Scenes that are shown several times: drawing one takes longer than learning from it on a GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.sam_nano.batches import Batch, bind, make_batch, rough_or_none, second_form
from training.sam_nano.cached_scenes import Asking, Page, draw_page
from training.sam_nano.plan import Plan, Stage

CAPACITY = 256
"""Pages in the pool; the oldest make room."""

ASKED = (Asking("click", 32, 0), Asking("box", 32, 0), Asking("points", 16, 4))
"""Prompts that a page of the pool comes with; each showing takes others of them."""

GAIN, GAMMA = (0.8, 1.1), (0.8, 1.25)
"""Ranges of the light that a page is shown in."""


class Pool:
    """Pages in the memory of a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pages: deque[Page] = deque(maxlen=CAPACITY)

    def add(self, pages: Iterable[Page]) -> None:
        """Take pages in, which must come with the prompts of ``ASKED``."""
        self._pages.extend(page.on(self._device) for page in pages)

    def batch(self, stage: Stage, seed: tuple[int, ...]) -> Batch:
        """Show some pages, half of them mirrored, in other light, with other prompts."""
        random = np.random.default_rng(seed)
        kind, extra = second_form(random, stage)
        again = len(self._pages) < stage.scenes
        picked = random.choice(len(self._pages), stage.scenes, replace=again)
        half = stage.prompts // 2
        shown = []
        for page in (self._pages[index] for index in picked):
            clicks, boxes, points = page.asked
            first = clicks.part(self._some(random, len(clicks.labels), stage.prompts - half))
            if kind == "box":
                second = boxes.part(self._some(random, len(boxes.labels), half))
            else:
                kept = [*range(1 + extra), -1]  # the last stands for the box that there is not
                second = points.part(self._some(random, len(points.labels), half), kept)
            shown.append(self._anew(random, replace(page, asked=(first, second))))
        return bind(shown, stage.side, (0, 0), rough_or_none(random, stage))

    def _some(self, random: np.random.Generator, count: int, wanted: int) -> torch.Tensor:
        rows = random.choice(count, wanted, replace=wanted > count)
        return torch.from_numpy(rows).to(self._device)

    @staticmethod
    def _anew(random: np.random.Generator, page: Page) -> Page:
        if page.fills_square and random.random() < 0.5:
            page = page.mirrored()
        return page.relit(float(random.uniform(*GAIN)), float(random.uniform(*GAMMA)))


class Draws(Dataset["Batch | list[Page]"]):
    """What the steps of a plan need drawn, from ``first`` on: a batch, or pages for the pool."""

    def __init__(self, plan: Plan, first: int) -> None:
        self.plan = plan
        self.first = first

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def __getitem__(self, index: int) -> Batch | list[Page]:
        step = self.first + index
        stage, seed = self.plan.stage(step), (self.plan.seed, step)
        if not stage.fresh:
            return make_batch(stage, seed)
        random = np.random.default_rng(seed)
        return [draw_page(random, stage, ASKED) for _ in range(stage.fresh)]


def feed(plan: Plan, first: int, workers: int, device: torch.device) -> Iterator[Batch]:
    """The batches of a plan from step ``first`` on, drawn by ``workers`` processes."""
    drawn = DataLoader(
        Draws(plan, first),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    pool = Pool(device)
    for step, new in enumerate(drawn, first):
        if isinstance(new, Batch):
            yield new.on(device)
        else:
            pool.add(new)
            yield pool.batch(plan.stage(step), (plan.seed, step, 2))
