"""Natural scenes: fractal surfaces, cells that touch, objects that occlude each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import outlines, textures
from training.sam_nano.scenes import Canvas, Scene, fill, light, photograph

Colours = NDArray[np.float32]
"""``(height, width, 3)`` in about [0, 1]."""


def surface(canvas: Canvas, size: tuple[int, int], base: NDArray[np.float32]) -> Colours:
    """Draw a surface of two colours mixed by fractal noise."""
    random = canvas.random
    coarsest = max(size) * random.uniform(0.15, 1.0)
    mix = textures.mottled(random, size, max(coarsest, 8.0))
    if random.random() < 0.4:  # veins, fur, bark: drawn out in one direction, or folded
        mix = np.abs(mix) * 2 - 1
    share = 1 / (1 + np.exp(-mix * random.uniform(0.7, 4)))[..., None]
    spread = random.choice([0.04, 0.1, 0.2])
    other = np.clip(base + canvas.tint(random.normal(0, spread, (1, 1)))[0, 0], 0.02, 0.98)
    grain = canvas.tint(random.standard_normal(size, dtype=np.float32))
    mixed = base * (1 - share) + other * share + np.float32(random.uniform(0, 0.05)) * grain
    return np.asarray(mixed, dtype=np.float32)


def draw_cells(canvas: Canvas) -> None:
    """Draw Voronoi cells, warped a little: a pixel belongs to the nearest of scattered middles."""
    random, (height, width) = canvas.random, canvas.size
    pitch = float(np.exp(random.uniform(np.log(40), np.log(0.5 * max(canvas.size)))))
    count = int(np.clip(height * width / pitch**2, 3, 90))
    middles = random.uniform(0, 1, (count, 2)) * (height, width)
    coarse = (height // 4, width // 4)
    y, x = (4 * axis.astype(np.float32) for axis in np.mgrid[: coarse[0], : coarse[1]])
    warp = pitch * random.uniform(0, 0.2)
    y = y + warp * textures.smooth_noise(random, coarse, pitch / 8 + 2)
    x = x + warp * textures.smooth_noise(random, coarse, pitch / 8 + 2)
    nearest, least = np.zeros(coarse, np.uint8), np.full(coarse, np.inf, np.float32)
    second = least
    for index, (row, column) in enumerate(middles.astype(np.float32)):
        away = np.hypot(y - row, x - column)
        closer = away < least
        second = np.where(closer, least, np.minimum(second, away))
        nearest[closer], least = index, np.where(closer, away, least)
    gap = random.choice([0.0, random.uniform(2, 8)])
    size = (width, height)
    patchify = np.asarray(Image.fromarray(nearest).resize(size, Image.Resampling.NEAREST))
    margin = Image.fromarray(second - least).resize(size, Image.Resampling.BILINEAR)
    own = np.asarray(margin) >= gap
    seen = surface(canvas, canvas.size, canvas.any_colour())
    tints = random.normal(0, random.uniform(0.05, 0.25), (count, 1 if canvas.grey else 3))
    shown = np.clip(seen + tints[patchify].astype(np.float32), 0.02, 0.98)
    canvas.colours = np.where(own[..., None], shown, canvas.colours)
    for index in range(count):
        inside = own & (patchify == index)
        if inside.any():
            canvas.claim(inside)


def draw_objects(canvas: Canvas) -> None:
    """Draw up to a dozen objects of any size with fractal surfaces that occlude each other."""
    random, (height, width) = canvas.random, canvas.size
    for _ in range(int(random.integers(2, 13))):
        radius = float(np.exp(random.uniform(np.log(10), np.log(0.4 * max(canvas.size)))))
        centre = random.uniform(0, 1, 2) * (width, height)
        inside = fill(outlines.random_outline(random, radius) + centre, canvas.size) > 127
        if inside.sum() < 160:
            continue
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part = inside[window]
        base = canvas.differing_colour(canvas.colours[window][part].mean(axis=0))
        weight = textures.soften(part.astype(np.float32), int(random.integers(0, 4)))[..., None]
        drawn = surface(canvas, part.shape, base)
        canvas.colours[window] += weight * (drawn - canvas.colours[window])
        canvas.claim(inside)


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a scene of ``(height, width)`` pixels."""
    canvas = Canvas(random, size)
    canvas.colours = surface(canvas, size, canvas.any_colour())
    (draw_cells if random.random() < 0.3 else draw_objects)(canvas)
    image = photograph(random, light(random, canvas.colours))
    if canvas.grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    return Scene(image, canvas.labels, np.array(canvas.wholes, dtype=np.int16))
