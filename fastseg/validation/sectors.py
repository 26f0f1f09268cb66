"""Generated frames as ultrasound shows hearts, the same ones each time: something to measure on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIZE = (480, 640)
"""Height and width in pixels."""

_CAVITIES = (
    ((0.05, 0.36), (0.10, 0.20)),
    ((-0.16, 0.38), (0.08, 0.15)),
    ((0.07, 0.73), (0.11, 0.12)),
    ((-0.14, 0.70), (0.10, 0.11)),
)
"""Centre and half axes of four chambers in an apical view, x before y, in heights of the frame."""


def sectors(count: int) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, 3) as ultrasound shows hearts: a sector of speckle with dark cavities."""
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
