"""Outlines of generated objects: closed polygons about the origin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]
"""Corners ``(n, 2)`` of a closed polygon, x before y, in pixels about the origin."""


def _rotated(points: Outline, angle: float) -> Outline:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def disc(random: np.random.Generator, radius: float) -> Outline:
    """Draw a circle whose edge wavers a little, as a worn coin's or a cell's does."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waver = sum(
        random.normal(0, 0.012) * np.cos(k * angles + random.uniform(0, 2 * np.pi))
        for k in (2, 3, 5)
    )
    return (radius * (1 + waver))[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def ellipse(random: np.random.Generator, radius: float) -> Outline:
    """Draw a rotated ellipse of aspect 1 to 3."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    aspect = random.uniform(1, 3) ** 0.5
    points = radius * np.stack([np.cos(angles) * aspect, np.sin(angles) / aspect], axis=1)
    return _rotated(points, random.uniform(0, np.pi))


def blob(random: np.random.Generator, radius: float) -> Outline:
    """Draw a smooth closed curve with a few random waves."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    waves = sum(
        random.normal(0, 0.35 / k) * np.cos(k * angles + random.uniform(0, 2 * np.pi))
        for k in range(2, 7)
    )
    distance = radius * np.clip(1 + waves, 0.25, 1.9)
    points = distance[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    stretch = random.uniform(1, 1.8) ** 0.5
    return _rotated(points * np.array([stretch, 1 / stretch]), random.uniform(0, np.pi))


def polygon(random: np.random.Generator, radius: float) -> Outline:
    """Draw three to eight corners, star-shaped or convex."""
    corners = int(random.integers(3, 9))
    angles = (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    distance = radius * random.uniform(0.6 if random.random() < 0.7 else 0.35, 1.2, corners)
    points = distance[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _rotated(points, random.uniform(0, 2 * np.pi))


def rectangle(random: np.random.Generator, radius: float) -> Outline:
    """Draw a rotated rectangle of aspect 1 to 4, upright half of the time."""
    aspect = random.uniform(1, 4) ** 0.5
    width, height = radius * aspect * 0.85, radius / aspect * 0.85
    points = np.array([[-width, -height], [width, -height], [width, height], [-width, height]])
    return _rotated(points, random.choice([0, np.pi / 2, random.uniform(0, np.pi)]))


def band(random: np.random.Generator, radius: float) -> Outline:
    """Draw a thin bent strip, such as a wire, a vessel or a stick."""
    along = np.linspace(-1, 1, 16)
    bend = random.normal(0, 0.35) * (along**2 - 0.4) + random.normal(0, 0.25) * along**3
    spine = radius * 1.8 * np.stack([along, bend], axis=1)
    slope = np.gradient(spine, axis=0)
    normal = np.stack([-slope[:, 1], slope[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    width = max(3.5, radius * random.uniform(0.07, 0.22)) * (1 + 0.25 * np.sin(3 * along))
    points = np.concatenate(
        [spine + normal * width[:, None], (spine - normal * width[:, None])[::-1]]
    )
    return _rotated(points, random.uniform(0, 2 * np.pi))


SHAPES = (disc, ellipse, blob, polygon, rectangle, band)
SHAPE_ODDS = np.array([0.25, 0.17, 0.24, 0.14, 0.1, 0.1])


def random_outline(random: np.random.Generator, radius: float) -> Outline:
    """Draw any of the shapes, of about ``radius`` pixels."""
    return SHAPES[int(random.choice(len(SHAPES), p=SHAPE_ODDS))](random, radius)
