"""Dermoscopic images: lesions of several browns with soft edges on skin, hair, bubbles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training import textures
from training.sam_nano.medical.anatomy import Anatomy, blob, blur, quantise
from training.sam_nano.scenes import Scene


def _hairs(random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Draw the coverage (height, width) of up to forty bent hairs."""
    plane = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(plane)
    along = np.linspace(-1, 1, 24)
    heading = random.uniform(0, np.pi)
    for _ in range(int(random.integers(0, 40)) if random.random() < 0.6 else 0):
        angle, bend = heading + random.normal(0, 0.5), random.normal(0, 0.3)
        length = max(size) * random.uniform(0.1, 0.5)
        points = np.stack([along, bend * along**2], axis=1) * length
        cosine, sine = np.cos(angle), np.sin(angle)
        turned = points @ np.array([[cosine, sine], [-sine, cosine]])
        turned += random.uniform(0, 1, 2) * size[::-1]
        draw.line(
            [(float(x), float(y)) for x, y in turned], fill=255, width=int(random.integers(2, 7))
        )
    return blur(np.asarray(plane, dtype=np.float32) / 255, 1.0)


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw an image of ``(height, width)`` pixels with one lesion, or a few."""
    anatomy = Anatomy(size)
    skin = np.array(
        [random.uniform(0.55, 0.9), random.uniform(0.4, 0.72), random.uniform(0.35, 0.65)]
    )
    pores = textures.mottled(random, size, max(size) / 6)[..., None] * random.uniform(0.005, 0.04)
    colours = (skin + pores * [1.0, 1.1, 1.1]).astype(np.float32)
    for _ in range(1 if random.random() < 0.75 else int(random.integers(2, 6))):
        reach = max(size) * float(np.exp(random.uniform(np.log(0.06), np.log(0.4))))
        centre = random.uniform(0.25, 0.75, 2) * size[::-1]
        ragged = textures.mottled(random, size, reach) * np.float32(random.uniform(0, 0.25))
        body = blur(
            blob(random, size, (centre[0], centre[1]), reach).astype(np.float32), reach / 12
        )
        lesion = body + ragged * (body > 0.02) > 0.5
        number = anatomy.add(lesion)
        if not number:
            continue
        colour = (
            skin * random.uniform(0.3, 0.85) * [1.0, random.uniform(0.7, 1), random.uniform(0.6, 1)]
        )
        net = textures.mottled(random, size, max(8.0, reach / random.uniform(1, 8)))[..., None]
        weight = blur(lesion.astype(np.float32), random.uniform(1, 0.06 * reach + 2))[..., None]
        colours += weight * (colour + net * random.uniform(0.01, 0.08) - colours)
        if random.random() < 0.5:
            inner_at = centre + random.normal(0, reach / 5, 2)
            inner = blob(random, size, (inner_at[0], inner_at[1]), reach * random.uniform(0.2, 0.5))
            inner &= lesion
            anatomy.add(inner, part_of=number)
            soft = blur(inner.astype(np.float32), random.uniform(1, 5))[..., None]
            colours += soft * (colour * random.uniform(0.4, 1.3) - colours)
    hair = _hairs(random, size)[..., None]
    colours += hair * (np.float32(random.uniform(0.05, 0.3)) - colours) * 0.85
    height, width = size
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    dark = 1 - random.uniform(0, 0.5) * np.clip(np.hypot(x, y) - 0.4, 0, 1)
    colours = colours * dark[..., None]
    if random.random() < 0.2:
        outside = np.hypot(x, y) > random.uniform(1.0, 1.2)
        colours[outside], anatomy.labels[outside] = 0.0, 0
    noise = random.normal(0, random.uniform(0.003, 0.02), colours.shape)
    return anatomy.scene(
        quantise(blur(np.asarray(colours + noise, np.float32), random.uniform(0.5, 1.5)))
    )
