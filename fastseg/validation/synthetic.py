"""Synthetic images to compare masks on, alike on every machine: scenes and ultrasound sectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

SIZE = (480, 640)
"""Height and width in pixels."""

SEEDS = (11, 23, 37, 41, 53, 67, 79)
_SHAPES = 14

_CAVITIES = (
    ((0.05, 0.36), (0.10, 0.20)),
    ((-0.16, 0.38), (0.08, 0.15)),
    ((0.07, 0.73), (0.11, 0.12)),
    ((-0.14, 0.70), (0.10, 0.11)),
)
"""Centre and half axes of four chambers in an apical view, x before y, in heights of the frame."""


def scenes(seeds: Iterable[int] = SEEDS) -> tuple[NDArray[np.uint8], ...]:
    """Draw images (480, 640, 3) of ellipses and tilted boxes, one for each seed.

    Each has a shaded background and noise, which grows from one to the next; shapes lie over each
    other, in part outside, of low and high contrast.
    """
    return tuple(_scene(seed, noise=3.0 * index) for index, seed in enumerate(seeds))


def sectors(count: int) -> Iterator[NDArray[np.uint8]]:
    """Draw frames (480, 640, 3) like an ultrasound heart: a sector of speckle, dark cavities."""
    for index in range(count):
        random = np.random.default_rng(index)
        height, width = SIZE
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x, y = (x - width / 2) / height, y / height
        radius, angle = np.hypot(x, y), np.arctan2(x, y + 1e-6)
        sector = (radius < 0.97) & (np.abs(angle) < random.uniform(0.6, 0.75))
        tissue = np.full((height, width), random.uniform(70, 130), np.float32)
        for place, size in _CAVITIES:
            cx, cy = np.array(place) + random.normal(0, 0.015, 2)
            a, b = np.array(size) * random.uniform(0.85, 1.15, 2)
            distance = np.hypot((x - cx) / a, (y - cy) / b)
            tissue *= np.clip((distance - 0.9) / 0.2, 0.08, 1)
            tissue += 50 * np.exp(-np.square((distance - 1.1) / 0.08))
        speckle = random.rayleigh(0.8, (height, width)).astype(np.float32)
        frame = np.where(sector, tissue * speckle * (1.1 - 0.5 * radius), 0)
        grey = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
        yield np.repeat(grey[..., None], 3, axis=2)


def _scene(seed: int, *, noise: float) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    shade = 40.0 * np.sin(x / width * random.uniform(1, 4) + y / height * random.uniform(1, 4))
    image = random.uniform(60, 160, 3) + shade[..., None]
    for index in range(_SHAPES):
        middle = random.uniform(0, 1, 2) * (width, height)
        radii = np.exp(random.uniform(np.log(18), np.log(110), 2))
        turn = random.uniform(0, np.pi)
        across = (x - middle[0]) * np.cos(turn) + (y - middle[1]) * np.sin(turn)
        along = (y - middle[1]) * np.cos(turn) - (x - middle[0]) * np.sin(turn)
        a, b = np.abs(across) / radii[0], np.abs(along) / radii[1]
        inside = (a * a + b * b < 1) if index % 2 else (np.maximum(a, b) < 0.85)
        image[inside] = random.uniform(0, 255, 3) + 0.2 * shade[inside][:, None]
    image += random.normal(0, noise, (height, width, 1))
    pixels: NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return pixels
