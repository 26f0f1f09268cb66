"""Times of the calls of one model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fastseg
from fastseg.artifacts.manifest import SAM
from fastseg.demo_data import PICTURE

SIZE = 1024, 768
"""Usual width and height of the image."""

REPEATS = 3
"""Usual number of calls after the first one, of which the median counts."""

EVERY_MASK = {"pred_iou_thresh": -1e9, "stability_score_thresh": 0.0}
"""Settings under which everything mode draws the masks of all points."""


@dataclass(frozen=True, slots=True)
class Times:
    """Medians of warm calls; None where a model has no such call."""

    runs: str
    """The runtimes of the encoder and of the decoder."""

    embedding_ms: float | None
    point_ms: float
    """One prompt on an embedding: a point, or a box where the model takes no points."""

    everything_s: float | None
    """Everything mode with the masks of all points drawn, the embedding included."""


def image(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return the demonstration's photograph in colour, at a width and height."""
    return np.asarray(Image.open(PICTURE).convert("RGB").resize(size))


def times(
    folder: Path,
    backend: str,
    points_per_side: int,
    *,
    size: tuple[int, int] = SIZE,
    repeats: int = REPEATS,
) -> Times:
    """Time the calls of a model folder; everything mode once, and not for a side of 0."""
    pixels = image(size)
    with fastseg.load(folder, device="cpu", backend=backend) as model:
        model_: Any = model
        rules = model_.manifest.sam_rules.prompts
        width, height = size
        prompt: dict[str, Any] = {}
        if rules.points:
            prompt["points"] = [[width / 2, height / 2]]
        elif rules.boxes:
            prompt["boxes"] = [width / 4, height / 4, width / 2, height / 2]
        if model_.manifest.family != SAM:
            # The network sees image and prompt together; an array is not remembered.
            point_ms = median_ms(lambda: model_.segment(pixels, **prompt), repeats)
            return Times(_runtimes(model_), None, point_ms, None)
        embedding = model_.embed(pixels)
        embedding_ms = median_ms(lambda: model_.embed(pixels), repeats, warm=True)
        point_ms = median_ms(lambda: model_.segment(embedding, **prompt), repeats)
        everything_s = None
        if points_per_side and rules.points:
            start = time.perf_counter()
            model_.everything(pixels, points_per_side=points_per_side, **EVERY_MASK)
            everything_s = time.perf_counter() - start
        return Times(_runtimes(model_), embedding_ms, point_ms, everything_s)


def _runtimes(model: Any) -> str:
    return "+".join(dict.fromkeys(each.split(":")[0] for each in model.runs.values()))


def median_ms(call: Callable[[], object], repeats: int = REPEATS, *, warm: bool = False) -> float:
    """Time warm calls and return the median; the first one, if it is not ``warm``, is left out."""
    if not warm:
        call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found)
