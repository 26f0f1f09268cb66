"""Evaluation by Dice on frames with known masks, beside the phantoms' mean mask.

Real frames are read from a folder that is no part of the project; nothing is ever trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.unet import Unet
from training.echo.heart import CLASSES, View
from training.echo.phantom import draw_masks

Mask = NDArray[np.bool_]
"""(SIDE, SIDE)."""

DEVELOPMENT = ("EX01", "EX02", "EX03", "EX04")
"""Frames that the generator was developed with; the others were not seen."""

LEVELS = np.linspace(0.1, 0.9, 17)
"""Thresholds of a mean mask."""


@dataclass(frozen=True, slots=True)
class Example:
    """One frame and its reference masks."""

    name: str
    """Name, such as ``"EX03"``."""
    image: NDArray[np.uint8] | NDArray[np.float32]
    """(H, W, 3) YCbCr or (H, W) grey."""
    truth: dict[str, Mask]
    """A mask for each compared chamber."""

    @property
    def held_out(self) -> bool:
        """True if the frame was not seen before the networks were done."""
        return self.name not in DEVELOPMENT


def compared_masks(view: View) -> tuple[str, ...]:
    """Return the names of a view's compared masks: its chambers, or cavity and disc."""
    return ("cavity", "disc") if view == "sax" else CLASSES[view][1:]


def read_examples(folder: Path, view: View) -> list[Example]:
    """Read the frames ``<VIEW>_EXnn.npz`` of a folder with the published network's own masks."""
    found = []
    for path in sorted(folder.glob(f"{view.upper()}_EX*.npz")):
        with np.load(path) as arrays:
            image = arrays["image"]
            masks = arrays["donut" if view == "sax" else "final"].astype(bool)
        if image.dtype != np.uint8:
            image = image.astype(np.float32)
        chosen = [CLASSES[view].index(name) for name in compared_masks(view)]
        truth = {CLASSES[view][k]: masks[..., k] for k in chosen}
        image = image[..., 0] if view == "sax" else image
        found.append(Example(path.stem.partition("_")[2], image, truth))
    return found


def dice(one: Mask, other: Mask) -> float:
    """Return twice the overlap over the sum of areas; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _to_size(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resample the mask to another size by the nearest pixels' centres."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return np.asarray(mask[rows[:, None], columns])


def network_dice(model: Unet, example: Example) -> dict[str, float]:
    """Return the Dice of every compared mask of a frame, through the public interface."""
    masks = model.segment(example.image, channels="ycbcr")
    return {
        name: dice(_to_size(masks[name].array()[0], truth.shape), truth)
        for name, truth in example.truth.items()
    }


def mean_masks(view: View, count: int = 400) -> dict[str, NDArray[np.float64]]:
    """Return the frequency of each pixel in each compared mask, over generated hearts."""
    total = sum(
        draw_masks(np.random.default_rng((5, seed)), view).astype(float) for seed in range(count)
    )
    shares = np.asarray(total) / count
    return {name: shares[CLASSES[view].index(name)] for name in compared_masks(view)}


def template_dice(examples: list[Example], view: View) -> list[dict[str, float]]:
    """Return the Dice of the best fixed template: mean masks cut at their best threshold."""
    templates = {}
    for name, share in mean_masks(view).items():
        cuts = [share > level for level in LEVELS]
        means = [np.mean([dice(cut, example.truth[name]) for example in examples]) for cut in cuts]
        templates[name] = cuts[int(np.argmax(means))]
    return [{name: dice(templates[name], e.truth[name]) for name in templates} for e in examples]


def mean(rows: list[dict[str, float]]) -> float:
    """Return the mean over frames and masks."""
    return float(np.mean([list(row.values()) for row in rows]))
