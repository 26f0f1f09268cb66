"""One comparison on test data: a base prompted by points, and its fine-tune without a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fastseg
from fastseg.errors import ImageError
from fastseg.evaluation import Adapter, Dataset, Outcome, Points, evaluate
from fastseg.export.model_folder import Card
from fastseg.export.sam import write_sam_folder
from training.finetune.start import read_start

SLOTS = ("argmax", "oracle")
"""Masks of a prompted base that are scored: the surest, and the best against the truth."""


@dataclass(frozen=True, slots=True)
class Score:
    """Means over the test images under one condition."""

    what: str
    dice: float
    iou: float
    images: int


def prompted(
    model: str, test: Dataset, clicks: Sequence[int], classes: Sequence[str]
) -> list[Score]:
    """Score a model that gets simulated points, each in the deepest error (Mazurowski et al.).

    Args:
        model: Embedded model or model folder.
        test: Data with truth.
        clicks: Numbers of points that are reported.
        classes: Classes that are scored; all if empty.

    Raises:
        ImageError: No image could be scored.
    """
    protocol = Points(count=max(clicks), slots=SLOTS)
    with fastseg.load(model) as loaded:
        outcome = evaluate(protocol, test, loaded)
    _require(outcome)
    found = []
    for number in sorted(clicks):
        for slot in SLOTS:
            rows = [row for row in outcome.rows if row.slot == slot]
            rows = [row for row in rows if not classes or row.task in classes]
            ious = np.array([row.scores[f"iou {number}"] for row in rows])
            points = "1 point" if number == 1 else f"{number} points"
            # Of one mask, Dice follows from IoU; of means it would not.
            dices = 2 * ious / (1 + ious)
            what = f"as it is, {points}, {slot} mask"
            found.append(Score(what, float(dices.mean()), float(ious.mean()), len(rows)))
    return found


def unprompted(model: str | Path, test: Dataset, classes: Sequence[str], what: str) -> Score:
    """Score a model folder that takes no prompt.

    Raises:
        ImageError: No image could be scored.
    """
    with fastseg.load(model) as loaded:
        outcome = evaluate(Adapter(classes=tuple(classes)), test, loaded)
    _require(outcome)
    dices = [row.scores["dice"] for row in outcome.rows]
    ious = [row.scores["iou"] for row in outcome.rows]
    return Score(what, float(np.mean(dices)), float(np.mean(ious)), len(dices))


def base_folder(model: str, out: Path, preprocess: str | None) -> str:
    """Return a model folder of the base: the model itself, or a checkpoint's export in ``out``.

    Raises:
        CheckpointError: The file is of no network that fastseg knows.
    """
    if not Path(model).is_file():
        return model
    start = read_start(model, preprocess=preprocess)
    card = Card(out.name, start.licence, f"{start.kind.title} weights", dict(start.source))
    write_sam_folder(start.modules(), out, card, preparation=start.preparation)
    return str(out)


def _require(outcome: Outcome) -> None:
    if not outcome.rows:
        reason = outcome.faults[0] if outcome.faults else "no image has an object."
        raise ImageError(f"nothing of the test data could be scored: {reason}")
