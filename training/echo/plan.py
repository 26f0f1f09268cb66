"""Training plan: all views together, then each alone.

Windows about the chambers cost half as much as whole frames and teach the same textures, but a
network trained only on these expects a chamber in their middle; whole frames correct that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.echo.heart import VIEWS, View
from training.echo.sector import SIDE

WARM_UP = 150
"""Steps in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A number of steps on one kind of batch."""

    name: str
    views: tuple[tuple[View, int], ...]
    """Frames of each view in a batch."""
    steps: int
    window: tuple[int, int]
    """Height and width of the window of a frame in pixels; about the chambers if smaller."""
    rate: float
    """Highest learning rate; it rises first and then falls along a cosine to a fiftieth."""

    @property
    def frames(self) -> int:
        """The number of frames in a batch."""
        return sum(count for _, count in self.views)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = min(1.0, (step + 1) / min(WARM_UP, max(1, self.steps // 10)))
        fall = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.rate * warm * (0.02 + 0.98 * fall)


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """Tasks of all views together, tasks of each view alone, and the seed of everything random."""

    together: tuple[TrainingTask, ...]
    single: dict[View, TrainingTask]
    width: int
    seed: int = 7


def plan(width: int, *, smoke: bool = False, widened: bool = False) -> TaskPlan:
    """Return the plan for networks of a width: full, in a few tiny steps, or for a widened one."""
    counts = (1, 1, 1) if smoke else (2, 4, 2)
    steps = (1, 2, 1) if smoke else (600, 1900, 100)
    views = tuple(zip(VIEWS, counts, strict=True))
    whole = (SIDE, SIDE)
    if widened:
        steps = (0, 2, 1) if smoke else (0, 120, 25)
    together = (
        TrainingTask("windows", views, steps[0], (192, 176), 1e-3),
        TrainingTask("joint", views, steps[1], whole, 3e-4 if widened else 1e-3),
    )
    alone = 1 if smoke else 8
    single = {view: TrainingTask(view, ((view, alone),), steps[2], whole, 3e-4) for view in VIEWS}
    return TaskPlan(together, single, width)
