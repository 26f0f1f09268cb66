"""Radiographs: bodies that add up instead of hiding each other, ribs, lungs, heart, bones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import textures
from training.sam_nano.medical.anatomy import Anatomy, blob, blur, ellipse, quantise
from training.sam_nano.scenes import Scene


def _chest(random: np.random.Generator, anatomy: Anatomy, thickness: NDArray[np.float32]) -> None:
    """Add a chest to the thickness of tissue: trunk, lungs, heart, ribs."""
    size = anatomy.size
    height, width = size
    middle = (width * random.uniform(0.45, 0.55), height * random.uniform(0.5, 0.6))
    trunk = ellipse(size, middle, (width * random.uniform(0.42, 0.6), height * 0.75))
    thickness += blur(trunk.astype(np.float32), 6) * 0.7
    for side in (-1, 1):
        centre = (middle[0] + side * width * 0.19, middle[1] - height * 0.08)
        radii = (width * random.uniform(0.11, 0.16), height * random.uniform(0.27, 0.36))
        lung = ellipse(size, centre, radii, side * random.uniform(0.0, 0.2))
        anatomy.add(lung)
        thickness -= blur(lung.astype(np.float32), 4) * np.float32(random.uniform(0.3, 0.5))
    heart_at = (middle[0] + width * 0.06, middle[1] + height * 0.08)
    heart = blob(random, size, heart_at, width * random.uniform(0.11, 0.17))
    anatomy.add(heart)
    thickness += blur(heart.astype(np.float32), 4) * np.float32(random.uniform(0.2, 0.4))
    spine = np.abs(np.arange(width) - middle[0]) < width * 0.03
    thickness += np.float32(0.15) * spine.astype(np.float32)
    for row in np.arange(0.15, 0.85, random.uniform(0.06, 0.1)) * height:
        x = np.arange(width, dtype=np.float32)
        curve = row + 0.12 * height * ((x - middle[0]) / (0.35 * width)) ** 2
        away = np.abs(np.arange(height, dtype=np.float32)[:, None] - curve)
        rib = np.clip(1 - away / (0.012 * height), 0, 1)
        thickness += np.float32(random.uniform(0.06, 0.16)) * rib


def _limb(random: np.random.Generator, anatomy: Anatomy, thickness: NDArray[np.float32]) -> None:
    """Add long bones with joints, bright rims and darker marrow, within soft tissue."""
    size = anatomy.size
    height, width = size
    angle = random.normal(0, 0.25) + np.pi / 2
    centre = (width * random.uniform(0.35, 0.65), height * 0.5)
    flesh = ellipse(size, centre, (max(size) * 0.9, width * random.uniform(0.2, 0.4)), angle)
    thickness += blur(flesh.astype(np.float32), 8) * 0.35
    long, thick = max(size) * random.uniform(0.2, 0.35), width * random.uniform(0.04, 0.09)
    for side in (-1, 1):
        for apart in (-0.6, 0.6) if random.random() < 0.4 else (0.0,):
            along = np.array([np.cos(angle), np.sin(angle)]) * side * long * 1.05
            aside = np.array([-np.sin(angle), np.cos(angle)]) * apart * 3 * thick
            x, y = (np.array(centre) + along + aside).tolist()
            bone = ellipse(size, (x, y), (long, thick), angle)
            knob = (np.array([x, y]) - along * 0.85).tolist()
            bone |= blob(random, size, (knob[0], knob[1]), thick * 1.4)
            anatomy.add(bone)
            marrow = ellipse(size, (x, y), (long * 0.9, thick * 0.6), angle)
            thickness += blur(bone.astype(np.float32), 2) * 0.5
            thickness -= blur(marrow.astype(np.float32), 3) * 0.2


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a radiograph of ``(height, width)`` pixels: a chest or a limb, perhaps an implant."""
    anatomy, thickness = Anatomy(size), np.zeros(size, dtype=np.float32)
    (_chest if random.random() < 0.6 else _limb)(random, anatomy, thickness)
    for _ in range(int(random.integers(0, 3))):
        place = (random.uniform(0.2, 0.8) * size[1], random.uniform(0.2, 0.8) * size[0])
        body = blob(random, size, place, max(size) * random.uniform(0.015, 0.06))
        anatomy.add(body)
        thickness += blur(body.astype(np.float32), 1.5) * np.float32(random.uniform(0.05, 0.8))
    scatter = textures.mottled(random, size, max(size) / 3) * np.float32(random.uniform(0, 0.06))
    shown = 1 - np.exp(-np.maximum(thickness + scatter, 0) * random.uniform(1, 2.2))
    shrink = random.uniform(1, 3)
    small = Image.fromarray(shown.astype(np.float32)).resize(
        (round(size[1] / shrink), round(size[0] / shrink)), Image.Resampling.BOX
    )
    counts = np.asarray(small) + random.normal(0, abs(random.normal(0, 0.02)), small.size[::-1])
    large = Image.fromarray(counts.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    grey = np.asarray(large, dtype=np.float32)
    return anatomy.scene(quantise(1 - grey if random.random() < 0.15 else grey))
