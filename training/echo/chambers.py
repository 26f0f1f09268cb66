"""Outlines of heart chambers: smooth closed curves built along a wall that two chambers share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.echo.sector import Points

Vector = NDArray[np.float64]
"""A point or a direction of the square, x before y."""

STATIONS = 40
"""Points along either side of a chamber."""


def rotate(direction: Vector, angle: float) -> Vector:
    """Rotate a direction clockwise on the image by ``angle`` radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = direction
    return np.array([cosine * x - sine * y, sine * x + cosine * y])


def waver(random: np.random.Generator, size: float) -> Vector:
    """Draw a smooth curve over the stations, of about ``size`` pixels, 0 at neither end."""
    positions = np.linspace(0, 1, STATIONS)
    waves = [
        random.normal(0, size / k) * np.sin(np.pi * k * positions + random.uniform(0, 2 * np.pi))
        for k in range(1, 6)
    ]
    return np.asarray(np.sum(waves, axis=0))


@dataclass(frozen=True, slots=True)
class Spine:
    """The axis of a chamber, from its base along the wall that it shares with another."""

    root: Vector
    """The base's end of the line, in pixels."""
    along: Vector
    """Unit direction from the base to the far end."""
    outward: Vector
    """Unit direction from the line into the chamber."""
    bend: float = 0.0
    """Pixels by which the middle of the line is moved outward."""

    def at(self, position: Vector, distance: Vector, away: Vector) -> Points:
        """Return points ``distance`` along and ``away`` outward in pixels; bent at ``position``."""
        bent = away + self.bend * 4 * position * (1 - position)
        return self.root + np.outer(distance, self.along) + np.outer(bent, self.outward)


@dataclass(frozen=True, slots=True)
class Chamber:
    """A chamber's size and the shape of its two sides."""

    length: float
    width: float
    gap: float
    """Pixels between the spine and the near side: half of the shared wall."""
    base: float
    """Width at the base, as a share of the greatest."""
    widest: float
    """Position of the greatest width, as a share of the length."""
    blunt: float
    """Exponent of the far end: 1 a wedge, 2 round, 3 blunt."""
    share: float
    """Share of the tapering on the near side: 0 keeps it along the spine, 0.5 is even."""
    slant: float
    """Pixels by which the far end of the base lies further along the spine than the near end."""
    sides: tuple[Vector, Vector]
    """Curves of ``waver`` for the near and the far side."""

    def profile(self, position: Vector) -> Vector:
        """Return the width at fractions of the length, as a share of the greatest."""
        rising = np.clip(position / self.widest, 0, 1)
        falling = np.clip((position - self.widest) / (1 - self.widest), 0, 1)
        opened = self.base + (1 - self.base) * np.sin(np.pi / 2 * rising)
        return np.asarray(opened * (1 - falling**self.blunt) ** (1 / max(self.blunt, 1.3)))

    def outline(self, spine: Spine, *, sag: float = 0.0) -> Points:
        """Return the closed curve; ``sag`` moves the base's middle along the spine, in pixels."""
        position = 1 - (1 - np.linspace(0, 1, STATIONS)) ** 1.6
        width = self.profile(position)
        near = self.gap + self.width * self.share * (1 - width)
        damping = np.sqrt(width)
        along = position * self.length
        slanted = along + self.slant * (1 - position) ** 2
        one = spine.at(position, along, near + self.sides[0] * damping)
        other = spine.at(position, slanted, near + self.width * width + self.sides[1] * damping)
        across = np.linspace(0, 1, 12)[1:-1]
        floor = other[0] + np.outer(across, one[0] - other[0])
        floor = floor + np.outer(4 * sag * across * (1 - across), spine.along)
        return np.concatenate([one, other[::-1], floor])

    def within_wall(self, near: float, far: float, tip: float) -> Chamber:
        """Return the outer border of a wall around this chamber, of three thicknesses in pixels."""
        return replace(
            self,
            length=self.length + tip,
            width=self.width + near + far,
            gap=self.gap - near,
            base=min(1.0, self.base + 0.1),
        )
