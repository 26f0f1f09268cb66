"""Synthetic hearts: grainy tissue, dark chambers, and their true masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fastseg import ops

SIDE = 256
ROWS, COLUMNS = np.indices((SIDE, SIDE))


def ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
    return ((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 < 1


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def seen(frame: np.ndarray) -> np.ndarray:
    """Return the luma of a frame as the input of a network."""
    luma: np.ndarray = ops.frame_input(np.ascontiguousarray(frame), (0, 0, SIDE, SIDE), SIDE)[0]
    return luma


def drawn_heart(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a dark ventricle above a dark atrium in tissue: uint8 frame, (3, h, w) true masks."""
    middle = 128 + random.uniform(-15, 15)
    ventricle = ellipse(95 + random.uniform(-5, 5), middle, 36, 20 + random.uniform(-2, 2))
    atrium = ellipse(178 + random.uniform(-5, 5), middle, 26 + random.uniform(-2, 2), 19)
    tissue = ellipse(130, 128, 110, 100)
    luma = np.where(tissue, 120.0, 60.0) + random.normal(0, 3, tissue.shape)
    luma[ventricle | atrium] = 5
    return luma.clip(0, 255).astype(np.uint8), np.stack([ventricle | atrium, atrium, ventricle])


def save_hearts(folder: Path, count: int, patients: int = 5) -> None:
    """Save frames in a folder for every patient."""
    random = np.random.default_rng(7)
    for number in range(count):
        patient = folder / f"patient{number % patients}"
        patient.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn_heart(random)[0]).save(patient / f"{number}.png")
