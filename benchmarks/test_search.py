"""The coarse-to-fine search beside the full one: points, time, masks found again, extra masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pytest

import fastseg
from fastseg import ops
from fastseg.demo import PICTURE
from fastseg.images import read_image
from fastseg.validation.synthetic import SEEDS, scenes

NEW_SEEDS = (101, 211, 307, 401)
"""Scenes that took no part in the choice of the search's rule; it was chosen on ``SEEDS``."""

LEAST_FEWER, LEAST_SHARE = 2.0, 0.95
"""Bounds on the counts, below those of every set of images in docs/performance.md."""

ALIKE = 0.9
"""IoU from which a mask of one search is that of the other."""


@dataclass
class Tally:
    """Both searches over some images."""

    full_points: int = 0
    points: int = 0
    full_seconds: float = 0.0
    seconds: float = 0.0
    full_masks: int = 0
    found_again: int = 0
    extra: int = 0

    def add(self, model: fastseg.Sam, image: Any, **settings: Any) -> None:
        start = perf_counter()
        full = model.everything(image, search="full", **settings)
        middle = perf_counter()
        quick = model.everything(image, search="coarse-to-fine", **settings)
        self.full_seconds += middle - start
        self.seconds += perf_counter() - middle
        self.full_points += full.points_decoded or 0
        self.points += quick.points_decoded or 0
        alike = ops.rle_iou(full.runs, quick.runs) >= ALIKE
        self.full_masks += len(full)
        self.found_again += int(alike.any(axis=1).sum())
        self.extra += int((~alike.any(axis=0)).sum())

    @property
    def fewer(self) -> float:
        return self.full_points / self.points

    @property
    def share(self) -> float:
        return self.found_again / self.full_masks

    def row(self, name: str) -> tuple[str, ...]:
        return (
            name,
            f"{self.full_points}",
            f"{self.points} ({self.fewer:.2f}x fewer)",
            f"{self.full_seconds:.1f}",
            f"{self.seconds:.1f} ({self.full_seconds / self.seconds:.2f}x)",
            f"{self.full_masks}",
            f"{self.found_again} ({100 * self.share:.1f} %)",
            f"{self.extra}",
        )


HEADING = (
    *("images", "points, full", "points", "seconds, full", "seconds", "masks, full"),
    *("found again", "extra masks"),
)


@pytest.fixture(scope="module")
def nano() -> Iterator[fastseg.Sam]:
    with fastseg.load("sam-nano", precision="fp32") as model:
        yield model


@pytest.mark.parametrize("name", ["coins", "new scenes", "scenes"])
def test_sam_nano(nano, table, name):
    images = {"coins": lambda: [read_image(PICTURE)], "new scenes": lambda: scenes(NEW_SEEDS)}
    tally = Tally()
    for image in images.get(name, lambda: scenes(SEEDS))():
        tally.add(nano, np.asarray(image))
    table("coarse-to-fine search, sam-nano, 32 x 32 points", [HEADING, tally.row(name)])
    assert tally.fewer > LEAST_FEWER
    assert tally.share > LEAST_SHARE
