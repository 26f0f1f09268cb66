"""Boxes around the chambers of real echocardiograms: measured, never trained on.

The frames and their masks come from the caller, because their licence keeps them out of here. The
baseline is the ellipse that fills the box: a box that fits determines most of a chamber.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastseg.sam.model import PromptModel
from training.echo.evaluation import dice
from training.sam_nano import evaluation

CHAMBERS = ("LA", "LV", "RA", "RV")
"""The order of the masks in a frame's file, after their union; two-chamber views have two."""

SMALLEST_AREA = 50
"""Pixels below which a mask is a leftover, not a chamber."""


@dataclass(frozen=True, slots=True)
class ChamberDice:
    """Dice of one chamber in one frame with the reference mask."""

    name: str
    ellipse: float
    """Dice of the ellipse that fills the box."""
    single: float
    """Dice of the single mask for the box."""
    chosen: float
    """Dice of the mask of three that scores highest."""


def ellipse(shape: tuple[int, int], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Draw the ellipse that fills the box x0, y0, x1, y1 of pixel edges on (height, width)."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return ((x - middle[0]) / half[0]) ** 2 + ((y - middle[1]) / half[1]) ** 2 <= 1


def frame(path: Path) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """Read the luma of an apical frame as a grey image (256, 256, 3), and its chambers."""
    with np.load(path) as arrays:
        luma, final = arrays["image"][..., 0], arrays["final"]
    if luma.dtype != np.uint8:
        luma = np.round(luma.astype(np.float32) * 255).astype(np.uint8)
    masks = {name: final[..., 1 + k] > 0 for k, name in enumerate(CHAMBERS[: final.shape[2] - 1])}
    kept = {name: mask for name, mask in masks.items() if mask.sum() > SMALLEST_AREA}
    return np.repeat(luma[..., None], 3, axis=2), kept


def measure(model: PromptModel, folder: Path) -> list[ChamberDice]:
    """Segment every chamber of the apical frames in a folder by the tight box of its mask."""
    found = []
    for path in sorted(folder.glob("A?C_*.npz")):
        image, masks = frame(path)
        boxes = evaluation.edges(np.stack(list(masks.values())))
        embedding = model.embed(image)
        single = model.segment(embedding, boxes=boxes, multimask=False).array()
        chosen = model.segment(embedding, boxes=boxes).best().array()
        for index, (name, mask) in enumerate(masks.items()):
            filled = ellipse(mask.shape, boxes[index])
            compared = (filled, single[index], chosen[index])
            found.append(ChamberDice(name, *(dice(one, mask) for one in compared)))
    return found
