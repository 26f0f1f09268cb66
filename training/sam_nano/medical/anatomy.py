"""Numbers of anatomical structures, and the smooth outlines that they have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training import outlines
from training.sam_nano.scenes import Scene, fill

SMALLEST = 120
"""Least visible pixels of a structure that gets a number."""

Mask = NDArray[np.bool_]


class Anatomy:
    """The structure of each pixel, while an image is drawn."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.labels = np.zeros(size, dtype=np.int16)
        self.wholes = [0]

    def add(self, mask: Mask, *, part_of: int = 0) -> int:
        """Label the pixels of a structure; return its number, or 0 if it is too small."""
        if np.count_nonzero(mask) < SMALLEST:
            return 0
        number = len(self.wholes)
        self.labels[mask] = number
        self.wholes.append(part_of or number)
        return number

    def scene(self, image: NDArray[np.uint8]) -> Scene:
        """Return the scene of an image uint8 (height, width, 3) with these structures."""
        return Scene(image, self.labels, np.array(self.wholes, dtype=np.int16))


def ellipse(
    size: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float], angle: float = 0
) -> Mask:
    """Return the pixels of an ellipse: its centre x, y, its radii across and down, its turn."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    across, down = x - np.float32(centre[0]), y - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, aside = cosine * across + sine * down, cosine * down - sine * across
    return np.asarray((along / radii[0]) ** 2 + (aside / radii[1]) ** 2 < 1)


def blob(
    random: np.random.Generator, size: tuple[int, int], centre: tuple[float, float], radius: float
) -> Mask:
    """Draw the pixels of a smooth body about a centre x, y."""
    outline = outlines.blob(random, radius)
    away = np.maximum(np.linalg.norm(outline, axis=1, keepdims=True), 1)
    outline = 0.5 * outline * (1 + radius / away)  # half way to a disc
    return fill(outline + np.array(centre), size) > 127


def blur(plane: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Blur a plane, or the channels of an image, by a Gaussian of ``reach`` pixels."""
    if plane.ndim == 3:
        return np.stack([blur(plane[..., k], reach) for k in range(plane.shape[2])], axis=2)
    # Pillow blurs 8 bits alone: two planes carry 16.
    low, high = float(plane.min()), float(plane.max()) + 1e-6
    whole = np.clip((plane - low) / (high - low), 0, 1) * 255
    coarse = np.floor(whole)
    parts = (coarse, (whole - coarse) * 255)
    soft = [
        np.asarray(
            Image.fromarray(part.astype(np.uint8)).filter(ImageFilter.GaussianBlur(reach)),
            dtype=np.float32,
        )
        for part in parts
    ]
    return np.asarray((soft[0] + soft[1] / 255) / 255 * (high - low) + low, dtype=np.float32)


def quantise(colours: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map colours or greys in [0, 1] to uint8 (height, width, 3)."""
    pixels = (np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
