"""Fundus photographs: optic disc with its cup, vessels, macula, bright and dark spots."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from training import textures
from training.sam_nano.medical.anatomy import Anatomy, Mask, blob, blur, ellipse, quantise
from training.sam_nano.scenes import Scene


def _vessels(
    random: np.random.Generator, size: tuple[int, int], disc: tuple[float, float], thick: float
) -> Mask:
    """Draw vessels that leave the disc in arcs, fork and taper."""
    plane = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(plane)
    ends = [
        (np.array(disc), angle + random.normal(0, 0.25), thick * random.uniform(0.7, 1.1), 4)
        for angle in (0.9, 2.2, -0.9, -2.2, *random.uniform(0, 6.3, 2))
    ]
    while ends:
        place, heading, width, forks = ends.pop()
        curl = random.normal(0, 0.03)
        for _ in range(int(random.integers(6, 14))):
            heading += curl + random.normal(0, 0.09)
            step = max(size) * 0.02 * np.array([np.cos(heading), np.sin(heading)])
            line = [(float(x), float(y)) for x, y in (place, place + step)]
            draw.line(line, fill=255, width=max(2, round(width)))
            place, width = place + step, max(width * 0.985, 2.0)
        for sign in (-1, 1) if forks else ():
            turn = sign * random.uniform(0.15, 0.6)
            ends.append((place, heading + turn, width * random.uniform(0.6, 0.9), forks - 1))
    return np.asarray(plane) > 0


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a photograph of ``(height, width)`` pixels."""
    height, width = size
    anatomy = Anatomy(size)
    base = np.array(
        [random.uniform(0.5, 0.85), random.uniform(0.2, 0.45), random.uniform(0.05, 0.25)]
    )
    choroid = textures.mottled(random, size, max(size) / 3)[..., None] * random.uniform(0.01, 0.06)
    colours = (base + choroid * [1.0, 0.8, 0.4]).astype(np.float32)
    middle, radius = (width / 2, height / 2), max(size) * random.uniform(0.45, 0.75)
    at = (middle[0] + random.choice([-1, 1]) * radius * random.uniform(0.1, 0.45),
          middle[1] + random.normal(0, 0.05) * radius)  # fmt: skip
    reach = radius * random.uniform(0.12, 0.24)
    disc = ellipse(size, at, (reach * 0.92, reach))
    number = anatomy.add(disc)
    glow = blur(disc.astype(np.float32), reach * random.uniform(0.03, 0.2))[..., None]
    colours += glow * (
        [random.uniform(0.9, 1.0), random.uniform(0.65, 0.9), random.uniform(0.3, 0.6)] - colours
    )
    share = random.uniform(0.3, 0.75)
    cup = ellipse(
        size, (at[0] + random.normal(0, 0.05) * reach, at[1]), (reach * share, reach * share)
    )
    anatomy.add(cup & disc, part_of=number)
    pale = blur((cup & disc).astype(np.float32), reach * random.uniform(0.03, 0.12))[..., None]
    colours += pale * np.float32(random.uniform(0.04, 0.2))
    macula = ellipse(size, (2 * middle[0] - at[0], middle[1]), (reach * 1.3, reach * 1.3))
    colours *= (
        1
        - np.float32(random.uniform(0.1, 0.4))
        * blur(macula.astype(np.float32), reach / 2)[..., None]
    )
    for _ in range(int(random.integers(0, 14))):
        place = random.uniform(0.15, 0.85, 2) * size[::-1]
        spot = blob(random, size, (place[0], place[1]), radius * random.uniform(0.012, 0.07))
        anatomy.add(spot & ~disc)
        shift = random.choice([-0.25, 0.25]) * random.uniform(0.4, 1)
        colours += blur((spot & ~disc).astype(np.float32), random.uniform(1, 4))[
            ..., None
        ] * np.float32(shift)
    vessels = _vessels(random, size, at, radius * random.uniform(0.012, 0.03))
    colours *= 1 - blur(vessels.astype(np.float32), 1.2)[..., None] * np.array(
        [0.25, 0.45, 0.4], dtype=np.float32
    ) * np.float32(random.uniform(0.6, 1.2))
    if random.random() < 0.5:
        anatomy.add(vessels & (anatomy.labels == 0))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot(x - middle[0], y - middle[1]) / radius
    colours *= (1 - random.uniform(0, 0.5) * np.clip(away, 0, 1) ** 2)[..., None]
    colours[away > 1], anatomy.labels[away > 1] = 0.01, 0
    noise = random.normal(0, random.uniform(0.003, 0.02), colours.shape)
    return anatomy.scene(
        quantise(blur(np.asarray(colours + noise, np.float32), random.uniform(0.5, 1.6)))
    )
