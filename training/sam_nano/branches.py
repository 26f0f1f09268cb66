"""Thin, branching objects: vessels, roots, cracks, cables, on any background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training import textures
from training.sam_nano.scenes import Canvas, Scene, light, photograph

Branch = tuple[NDArray[np.float64], float, float, int]
"""Start of a branch, its direction in radians, its width, and the forks that remain."""


def tree(random: np.random.Generator, size: tuple[int, int], width: float) -> NDArray[np.bool_]:
    """Draw the pixels ``(height, width)`` of one tree whose trunk is ``width`` pixels thick."""
    plane = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(plane)
    start, goal = (random.uniform(low, 1 - low, 2) * size[::-1] for low in (0.0, 0.3))
    heading = float(np.arctan2(*(goal - start)[::-1]))
    open_ends: list[Branch] = [(start, heading, width, int(random.integers(0, 5)))]
    wander = random.uniform(0.05, 0.35)
    while open_ends:
        place, direction, thick, forks = open_ends.pop()
        for _ in range(int(random.integers(5, 16))):
            direction += random.normal(0, wander)
            step = max(2.5 * thick, 10.0) * np.array([np.cos(direction), np.sin(direction)])
            ends = [tuple(place.tolist()), tuple((place + step).tolist())]
            draw.line(ends, fill=255, width=max(int(thick), 2))
            place, half = place + step, thick / 2
            draw.ellipse([*(place - half).tolist(), *(place + half).tolist()], fill=255)
            thick = max(thick * 0.97, 3.0)
        if forks and thick > 3:
            for sign in (-1, 1):
                turn = sign * random.uniform(0.25, 0.8)
                shrunk = max(thick * random.uniform(0.6, 0.9), 3.0)
                open_ends.append((place, direction + turn, shrunk, forks - 1))
    return np.asarray(plane) > 0


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw one to three trees of ``(height, width)`` pixels, over or under other objects."""
    canvas = Canvas(random, size)
    for _ in range(int(random.integers(1, 4))):
        inside = tree(random, size, float(np.exp(random.uniform(np.log(5), np.log(36)))))
        if inside.sum() < 200:
            continue
        under = canvas.colours[inside].mean(axis=0)
        colour = canvas.differing_colour(under)
        weight = textures.soften(inside.astype(np.float32), int(random.integers(0, 4)))
        weight = weight * np.float32(random.uniform(0.5, 1))
        canvas.colours += weight[..., None] * (colour - canvas.colours)
        canvas.claim(inside)
    image = photograph(random, light(random, canvas.colours))
    if canvas.grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    return Scene(image, canvas.labels, np.array(canvas.wholes, dtype=np.int16))
