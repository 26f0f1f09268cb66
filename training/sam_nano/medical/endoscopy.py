"""Endoscopic images: polyps on folded mucosa, a light at the camera, specular spots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training import textures
from training.sam_nano import branches
from training.sam_nano.medical.anatomy import Anatomy, blob, blur, ellipse, quantise
from training.sam_nano.scenes import Scene


def _wall(random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Draw the height of a folded wall: ridges about a dark lumen, and a fine relief."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    lumen = random.uniform(0, 1, 2) * [width, height]
    away = np.hypot(x - lumen[0], y - lumen[1]) / max(size)
    turn = np.arctan2(y - lumen[1], x - lumen[0])
    bend = random.uniform(0, 0.08) * np.sin(random.integers(2, 5) * turn + random.uniform(0, 6))
    folds = np.sin(2 * np.pi * (away + bend) * random.uniform(2, 7)) ** 3
    fine = textures.mottled(random, size, max(size) / random.uniform(3, 12))
    return np.asarray(folds * random.uniform(4, 30) + fine * random.uniform(1, 6), np.float32)


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw an image of ``(height, width)`` pixels with up to four polyps, perhaps a tool."""
    height, width = size
    anatomy, relief = Anatomy(size), _wall(random, size)
    base = np.array(
        [random.uniform(0.55, 0.85), random.uniform(0.25, 0.5), random.uniform(0.2, 0.4)]
    )
    patches = textures.mottled(random, size, max(size) / 4)[..., None]
    colours = base + patches * np.array([0.03, 0.04, 0.03]) * random.uniform(0.3, 1.5)
    if random.random() < 0.6:
        vessels = branches.tree(random, size, random.uniform(4, 9)).astype(np.float32)
        colours -= blur(vessels, 1.5)[..., None] * np.array([0.05, 0.12, 0.1])
    for _ in range(int(random.integers(1, 5))):
        radius = float(np.exp(random.uniform(np.log(0.03), np.log(0.22)))) * max(size)
        centre = (random.uniform(0.1, 0.9) * width, random.uniform(0.1, 0.9) * height)
        polyp = blob(random, size, centre, radius)
        if not anatomy.add(polyp):
            continue
        soft = blur(polyp.astype(np.float32), radius * random.uniform(0.12, 0.35))
        relief += soft * np.float32(radius * random.uniform(0.3, 1.2))
        shift = random.normal((0.04, -0.02, -0.01), 0.05)
        weave = textures.mottled(random, size, max(radius, 8.0))[..., None] * random.uniform(
            0, 0.06
        )
        colours += blur(polyp.astype(np.float32), 2)[..., None] * (shift + weave)
    if random.random() < 0.2:
        _tool(random, anatomy, colours, relief)
    image = _light(random, colours, relief)
    _mask(random, anatomy, image)
    return anatomy.scene(quantise(image))


def _tool(
    random: np.random.Generator,
    anatomy: Anatomy,
    colours: NDArray[np.float64],
    relief: NDArray[np.float32],
) -> None:
    """Add a grey shaft that comes in from an edge."""
    height, width = anatomy.size
    start = (random.choice([0.0, float(width)]), random.uniform(0.3, 1.0) * height)
    length, thick = max(anatomy.size) * random.uniform(0.3, 0.6), width * random.uniform(0.02, 0.06)
    shaft = ellipse(anatomy.size, start, (length, thick), random.uniform(-0.6, 0.6))
    anatomy.add(shaft)
    colours[shaft] = random.uniform(0.25, 0.7)
    relief[shaft] = blur(shaft.astype(np.float32), thick / 2)[shaft] * thick


def _light(
    random: np.random.Generator, colours: NDArray[np.float64], relief: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Light a relief from beside the camera: diffuse, with mirror-like spots, darker outwards."""
    height, width = relief.shape
    down, across = np.gradient(blur(relief, 1.5))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    lamp = random.normal(0, 0.4, 2)
    slope = 0.6 * random.uniform(0.5, 1.5)
    normal = np.stack([-across * slope, -down * slope, np.ones_like(across)], axis=2)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    beam = np.stack([lamp[0] - x, lamp[1] - y, np.full_like(x, random.uniform(0.8, 1.6))], axis=2)
    beam /= np.linalg.norm(beam, axis=2, keepdims=True)
    diffuse = np.clip((normal * beam).sum(axis=2), 0, 1)
    fall = 1 / (1 + random.uniform(0, 1.2) * ((x - lamp[0]) ** 2 + (y - lamp[1]) ** 2))
    shining = diffuse ** random.uniform(40, 160) * (
        textures.soften(random.standard_normal(relief.shape, dtype=np.float32), 3)
        > random.uniform(0.0, 0.3)
    )
    lit = colours * (0.25 + 0.9 * diffuse * fall)[..., None]
    lit = lit + blur(shining.astype(np.float32), 1.2)[..., None] * random.uniform(0.3, 0.9)
    noise = random.normal(0, random.uniform(0.003, 0.02), lit.shape)
    return blur(np.asarray(lit + noise, dtype=np.float32), random.uniform(0.6, 1.8))


def _mask(random: np.random.Generator, anatomy: Anatomy, image: NDArray[np.float32]) -> None:
    """Blacken what lies outside of the round or eight-sided field of view, in most images."""
    height, width = anatomy.size
    if random.random() < 0.3:
        return
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    away = np.maximum(np.abs(x), np.abs(y)) * 0.98
    away = np.maximum(away, (np.abs(x) + np.abs(y)) / random.uniform(1.4, 1.9))
    if random.random() < 0.4:
        away = np.hypot(x, y) / random.uniform(1.0, 1.25)
    image[away > 1] = 0
    anatomy.labels[away > 1] = 0
