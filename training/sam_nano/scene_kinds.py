"""Kinds of generated scenes, and how often each is drawn."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from training.sam_nano import branches, natural_scenes, phantoms, scenes, ultrasound

SceneKind = Literal["shapes", "ultrasound", "phantoms", "nature", "branches"]
"""Layered shapes; hearts and cysts; tomograms and radiographs; natural surfaces; vessels."""

SCENE_KINDS: tuple[SceneKind, ...] = get_args(SceneKind)
ODDS = (0.25, 0.22, 0.13, 0.20, 0.20)
"""Share of each kind among the scenes: the compact and the hardest ones most."""

GENERATORS = {
    "shapes": scenes.generate,
    "ultrasound": ultrasound.generate,
    "phantoms": phantoms.generate,
    "nature": natural_scenes.generate,
    "branches": branches.generate,
}


def generate(
    random: np.random.Generator, size: tuple[int, int], kind: SceneKind | None = None
) -> scenes.Scene:
    """Draw a scene of ``(height, width)`` pixels of a given kind, or of any."""
    drawn: SceneKind = kind or SCENE_KINDS[int(random.choice(len(SCENE_KINDS), p=ODDS))]
    return GENERATORS[drawn](random, size)
