"""Generated pictures of known kinds, the same on every machine: something to measure masks on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SIZE = (480, 640)
"""Height and width in pixels."""

SEEDS = (11, 23, 37, 41, 53, 67, 79)
_SHAPES = 14


def scenes(seeds: Iterable[int] = SEEDS) -> tuple[NDArray[np.uint8], ...]:
    """Pictures (480, 640, 3), seven if left to themselves: ellipses and tilted boxes.

    Each has a shaded background and noise, which grows from one to the next; shapes lie over each
    other, in part outside, of low and high contrast.
    """
    return tuple(_scene(seed, noise=3.0 * index) for index, seed in enumerate(seeds))


def _scene(seed: int, *, noise: float) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    shade = 40.0 * np.sin(x / width * random.uniform(1, 4) + y / height * random.uniform(1, 4))
    picture = random.uniform(60, 160, 3) + shade[..., None]
    for index in range(_SHAPES):
        middle = random.uniform(0, 1, 2) * (width, height)
        radii = np.exp(random.uniform(np.log(18), np.log(110), 2))
        turn = random.uniform(0, np.pi)
        across = (x - middle[0]) * np.cos(turn) + (y - middle[1]) * np.sin(turn)
        along = (y - middle[1]) * np.cos(turn) - (x - middle[0]) * np.sin(turn)
        a, b = np.abs(across) / radii[0], np.abs(along) / radii[1]
        inside = (a * a + b * b < 1) if index % 2 else (np.maximum(a, b) < 0.85)
        picture[inside] = random.uniform(0, 255, 3) + 0.2 * shade[inside][:, None]
    picture += random.normal(0, noise, (height, width, 1))
    pixels: NDArray[np.uint8] = picture.clip(0, 255).astype(np.uint8)
    return pixels
