"""Which kind of picture a scene is."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from training.sam_nano import branches, natural_scenes, phantoms, scenes, ultrasound

Look = Literal["shapes", "ultrasound", "phantoms", "nature", "branches"]
"""Layered shapes; hearts and cysts; tomograms and radiographs; grown surfaces; vessels."""

LOOKS: tuple[Look, ...] = get_args(Look)
ODDS = (0.25, 0.22, 0.13, 0.20, 0.20)
"""How often each look is drawn: the compact and the hardest ones most."""

GENERATORS = {
    "shapes": scenes.generate,
    "ultrasound": ultrasound.generate,
    "phantoms": phantoms.generate,
    "nature": natural_scenes.generate,
    "branches": branches.generate,
}


def generate(
    random: np.random.Generator, size: tuple[int, int], look: Look | None = None
) -> scenes.Scene:
    """Draw a scene of ``(height, width)`` pixels of a given look, or of any."""
    drawn: Look = look or LOOKS[int(random.choice(len(LOOKS), p=ODDS))]
    return GENERATORS[drawn](random, size)
