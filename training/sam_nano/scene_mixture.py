"""Mixture of scenes of the sixth edition: generated ones, collages, photographs, phantoms."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from training.sam_nano import medical, scene_kinds
from training.sam_nano.photographs import collages, labelled_photographs
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.scenes import Scene

MixtureKind = Literal["generated", "collage", "photograph", "medical"]
"""Kinds of the earlier editions; objects pasted into photographs; photographs' own regions;
phantoms of five modalities."""

KINDS: tuple[MixtureKind, ...] = get_args(MixtureKind)
ODDS = (0.24, 0.34, 0.24, 0.18)


def generate(
    random: np.random.Generator,
    images: Collection,
    size: tuple[int, int],
    kind: MixtureKind | None = None,
) -> Scene:
    """Draw a scene of ``(height, width)`` pixels of a given kind, or of any."""
    drawn: MixtureKind = kind or KINDS[int(random.choice(len(KINDS), p=ODDS))]
    if drawn == "collage":
        return collages.generate(random, images, size)
    if drawn == "photograph":
        return labelled_photographs.generate(random, images, size)
    if drawn == "medical":
        return medical.generate(random, size)
    return scene_kinds.generate(random, size)
