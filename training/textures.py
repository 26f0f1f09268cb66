"""Surfaces of generated objects: smooth noise, stripes, grain, relief lit from one side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]
"""One value per pixel, shape ``(height, width)``."""


def smooth_noise(random: np.random.Generator, size: tuple[int, int], grain: float) -> Plane:
    """Draw noise of unit deviation with bumps of about ``grain`` pixels."""
    height, width = size
    coarse = (max(2, round(height / grain) + 1), max(2, round(width / grain) + 1))
    seeds = Image.fromarray(random.standard_normal(coarse, dtype=np.float32))
    plane = np.asarray(seeds.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    return plane * 1.3


def soften(plane: Plane, times: int) -> Plane:
    """Blur by one pixel, ``times`` over."""
    for _ in range(times):
        for axis in (0, 1):
            ahead, behind = np.roll(plane, 1, axis), np.roll(plane, -1, axis)
            plane = np.float32(0.5) * plane + np.float32(0.25) * (ahead + behind)
    return plane


def mottled(random: np.random.Generator, size: tuple[int, int], coarsest: float) -> Plane:
    """Draw several octaves of smooth noise with a random balance between them."""
    fall = random.uniform(0.35, 1.0)
    plane = np.zeros(size, dtype=np.float32)
    weight, total, grain = 1.0, 0.0, coarsest
    while grain >= 2.5:
        plane += np.float32(weight) * smooth_noise(random, size, grain)
        total += weight**2
        weight, grain = weight * fall, grain / 2.5
    return plane / np.float32(max(total, 1e-3) ** 0.5)


def stripes(random: np.random.Generator, size: tuple[int, int]) -> Plane:
    """Draw straight or wavy stripes, soft or hard."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = random.uniform(0, np.pi), random.uniform(6, 40)
    phase = (np.cos(angle) * x + np.sin(angle) * y) * np.float32(2 * np.pi / period)
    if random.random() < 0.5:
        phase = phase + smooth_noise(random, size, period * 2)
    waves: Plane = np.tanh(np.sin(phase) * np.float32(random.uniform(0.5, 4)))
    return waves


def checks(random: np.random.Generator, size: tuple[int, int]) -> Plane:
    """Draw a chequered surface."""
    y, x = np.mgrid[: size[0], : size[1]]
    cell = random.integers(5, 24)
    return ((x // cell + y // cell) % 2 * 2 - 1).astype(np.float32)


def relief(random: np.random.Generator, size: tuple[int, int]) -> Plane:
    """Draw an embossed surface lit from one side: the slope of hard-edged smooth noise."""
    grain = random.uniform(6, max(7, min(size) / 3))
    height = np.tanh(2.5 * smooth_noise(random, size, grain))
    height += 0.4 * smooth_noise(random, size, max(3, grain / 3))
    angle = random.uniform(0, 2 * np.pi)
    down, across = np.gradient(height)
    slope = np.float32(np.cos(angle)) * across + np.float32(np.sin(angle)) * down
    return (slope / (slope.std() + 1e-4)).astype(np.float32)


def surface(random: np.random.Generator, size: tuple[int, int]) -> Plane:
    """Draw any texture of about unit deviation, or a plain one."""
    kind = random.random()
    if kind < 0.25:
        return np.zeros(size, dtype=np.float32)
    if kind < 0.55:
        return mottled(random, size, random.uniform(8, max(9, max(size) / 2)))
    if kind < 0.82:
        return relief(random, size)
    return stripes(random, size) if kind < 0.93 else checks(random, size)
