"""Photographs as scenes: their regions are the objects."""

from __future__ import annotations

import numpy as np

from training.sam_nano.photographs import camera, regions
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.scenes import Scene

FEWEST = 3
"""Least regions of a scene; crops with fewer are drawn anew."""


def generate(random: np.random.Generator, images: Collection, size: tuple[int, int]) -> Scene:
    """Draw a crop of a photograph of ``(height, width)`` pixels with its weak labels."""
    while True:
        crop = images.photograph(random, size)
        found = regions.find(random, crop)
        if len(found.wholes) > FEWEST:
            image = camera.expose(random, crop.astype(np.float32) / 255)
            return Scene(image, found.labels, found.wholes, ground_known=False)
