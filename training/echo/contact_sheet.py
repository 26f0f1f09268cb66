"""Contact sheet: many small frames on one image, with the outlines of their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fastseg.imaging.palette import colours
from fastseg.storage.atomic import atomic_file
from training.echo.labelling import Labels
from training.echo.own_frames import SIDE, OwnFrames

COLUMNS = 6
ROWS = 4


def save(path: Path, frames: OwnFrames, labels: Labels) -> None:
    """Write up to ``COLUMNS * ROWS`` labelled frames, evenly chosen, as one image.

    Args:
        path: A PNG file to write.
        frames: All frames.
        labels: At least one label.

    Raises:
        OutputError: The file cannot be written.
    """
    count = min(len(labels), COLUMNS * ROWS)
    chosen = np.linspace(0, len(labels) - 1, count).round().astype(int)
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * SIDE, min(count, COLUMNS) * SIDE, 3), dtype=np.uint8)
    for cell, index in enumerate(chosen.tolist()):
        top, left = cell // COLUMNS * SIDE, cell % COLUMNS * SIDE
        frame = frames[labels.frames[index]][0]
        sheet[top : top + SIDE, left : left + SIDE] = _draw_outlines(frame, labels[index])
    with atomic_file(path) as temporary:
        Image.fromarray(sheet).save(temporary)


def _draw_outlines(luma: NDArray[np.float32], label: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a grey frame (h, w) in [0, 1] with the border of every mask in its own colour."""
    image = np.repeat((luma * 255).astype(np.uint8)[..., None], 3, axis=2)
    for mask, colour in zip(label, colours(len(label)), strict=True):
        image[mask & ~ndimage.binary_erosion(mask)] = colour
    return image
