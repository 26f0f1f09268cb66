"""Phantoms of medical images, by modality, with the noise and the light of each."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from training.sam_nano.medical import dermoscopy, endoscopy, fundus, radiographs, tomograms
from training.sam_nano.scenes import Scene

Modality = Literal["tomogram", "radiograph", "endoscopy", "dermoscopy", "fundus"]

MODALITIES: tuple[Modality, ...] = get_args(Modality)
ODDS = (0.46, 0.12, 0.2, 0.12, 0.1)
"""Share of each modality: organs that touch are the hardest and come most."""

GENERATORS = {
    "tomogram": tomograms.generate,
    "radiograph": radiographs.generate,
    "endoscopy": endoscopy.generate,
    "dermoscopy": dermoscopy.generate,
    "fundus": fundus.generate,
}


def generate(
    random: np.random.Generator, size: tuple[int, int], modality: Modality | None = None
) -> Scene:
    """Draw an image of ``(height, width)`` pixels of a given modality, or of any."""
    drawn: Modality = modality or MODALITIES[int(random.choice(len(MODALITIES), p=ODDS))]
    return GENERATORS[drawn](random, size)
