"""A small collection of constructed images in the place of the downloaded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = ((200, 60, 40), (40, 160, 70), (50, 70, 200), (230, 200, 60))


def known_regions(
    size: tuple[int, int] = (192, 240),
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """Return an image of known regions: a disc with a square in it, a bar, and two grounds."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(x - 0.3 * width, y - 0.5 * height) < 0.3 * height
    square = (abs(x - 0.3 * width) < 0.1 * height) & (abs(y - 0.5 * height) < 0.1 * height)
    bar = (x > 0.65 * width) & (x < 0.9 * width) & (y > 0.15 * height) & (y < 0.85 * height)
    image = np.full((height, width, 3), 235, np.uint8)
    image[y > 0.6 * height] = (120, 120, 125)
    for mask, colour in zip((disc, square, bar), COLOURS, strict=False):
        image[mask] = colour
    grain = np.random.default_rng(5).normal(0, 3, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8), {
        "disc": disc,
        "square": square,
        "bar": bar,
    }


def write(folder: Path) -> Path:
    """Write two photographs, a texture and two drawings below a folder; return it."""
    random = np.random.default_rng(2)
    for kind in ("photograph", "texture", "drawing"):
        (folder / kind / "package").mkdir(parents=True)
    image, _ = known_regions()
    Image.fromarray(image).save(folder / "photograph" / "package" / "one.png")
    Image.fromarray(image[::-1, ::-1]).save(folder / "photograph" / "package" / "two.png")
    grain = random.integers(60, 200, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(grain).save(folder / "texture" / "package" / "grain.png")
    y, x = np.mgrid[:90, :70]
    for number, opaque in enumerate(
        (np.hypot(x - 35, y - 45) < 30, abs(x - 35) + abs(y - 45) < 30)
    ):
        drawing = np.zeros((90, 70, 4), np.uint8)
        drawing[opaque] = (*COLOURS[number], 255)
        Image.fromarray(drawing).save(folder / "drawing" / "package" / f"{number}.png")
    return folder
