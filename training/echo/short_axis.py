"""Short-axis hearts: the ring of the left ventricle with the right one around it."""

from __future__ import annotations

import numpy as np

from training.echo.chambers import Vector
from training.echo.heart import Heart
from training.echo.sector import Points

CORNERS = 64


def _loop(random: np.random.Generator, radius: float, waves: float) -> Vector:
    """Draw distances from the middle at ``CORNERS`` angles, varying by the share ``waves``."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    total = sum(
        random.normal(0, waves / k) * np.cos(k * angles + random.uniform(0, 2 * np.pi))
        for k in range(2, 7)
    )
    return np.asarray(radius * (1 + total))


def _points(distance: Vector, stretch: float, turn: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False) + turn
    return np.stack([distance * np.cos(angles), distance * np.sin(angles) * stretch], axis=1)


def _right_ventricle(random: np.random.Generator, heart: Heart, radius: float) -> None:
    """Add a dark crescent at image left of the ring, from its top to its lower left."""
    middle = np.array([-radius * random.uniform(0.5, 1.0), -radius * random.uniform(0.1, 0.7)])
    size = radius * random.uniform(0.6, 1.05)
    outline = middle + _points(_loop(random, size, 0.08), random.uniform(0.7, 1.4), 0.0)
    border = middle + (outline - middle) * (1 + random.uniform(3, 9) / size)
    heart.fill(border, "wall")
    heart.fill(outline, "blood")


def _papillary_muscles(random: np.random.Generator, heart: Heart, cavity: Points) -> None:
    middle = cavity.mean(axis=0)
    for lean in (0.5, 2.6):
        if random.random() < 0.2:
            continue
        at = int((lean + random.normal(0, 0.3)) / (2 * np.pi) * CORNERS) % CORNERS
        size = np.linalg.norm(cavity[at] - middle) * random.uniform(0.12, 0.34)
        position = middle + (cavity[at] - middle) * random.uniform(0.6, 0.95)
        blob = position + _points(_loop(random, float(size), 0.15), random.uniform(0.7, 1.3), 0.0)
        heart.fill(blob, "muscle")
    for _ in range(int(random.integers(0, 6))):
        at = int(random.integers(0, CORNERS))
        position = middle + (cavity[at] - middle) * random.uniform(0.8, 1.0)
        blob = position + _points(_loop(random, random.uniform(1.5, 5), 0.2), 1.0, 0.0)
        heart.fill(blob, "muscle")


def ring(random: np.random.Generator) -> Heart:
    """Draw the left ventricle's cavity and muscle, papillary muscles and the right ventricle."""
    inner = random.uniform(19, 42)
    wall = random.uniform(8, 19)
    stretch, turn = random.uniform(0.85, 1.2), random.uniform(0, 2 * np.pi)
    distance = _loop(random, inner, random.uniform(0.0, 0.07))
    thickness = np.clip(_loop(random, wall, random.uniform(0.0, 0.15)), 5, None)
    cavity = _points(distance, stretch, 0.0)
    outer = _points(distance + thickness, stretch, 0.0)
    heart = Heart()
    if random.random() < 0.85:
        _right_ventricle(random, heart, inner + wall)
    heart.fill(outer, "muscle")
    start = int(turn / (2 * np.pi) * CORNERS)
    around = np.roll(outer, -start, axis=0)
    for part in (
        around[: int(random.integers(6, 40))],
        around[40 : 40 + int(random.integers(2, 20))],
    ):
        if random.random() < 0.75:
            heart.line(part, "fibrous", random.uniform(1.5, 7))
    heart.fill(cavity, "blood")
    if random.random() < 0.5:
        heart.line(np.roll(cavity, start, axis=0)[:30], "leaflet", random.uniform(1, 3))
    _papillary_muscles(random, heart, cavity)
    heart.chambers.update({"cavity": cavity, "disc": outer})
    return heart
