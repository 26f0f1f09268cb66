"""Heart as a list of outlines and lines with their tissue, in the order of drawing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from training.echo.sector import Points

View = Literal["a2c", "a4c", "sax"]
"""Apical two-chamber, apical four-chamber, parasternal short axis."""

VIEWS: tuple[View, ...] = ("a2c", "a4c", "sax")

CLASSES: dict[View, tuple[str, ...]] = {
    "a2c": ("union", "LA", "LV"),
    "a4c": ("union", "LA", "LV", "RA", "RV"),
    "sax": ("cavity", "ring", "disc"),
}
"""Output channels of each view's network, in order."""

CHANNELS: dict[View, int] = {"a2c": 3, "a4c": 3, "sax": 1}
"""Input channels of each view's network: luma and both chromas, or luma alone."""

Tissue = Literal["blood", "trabeculae", "muscle", "wall", "leaflet", "fibrous", "outside"]
"""Tissues from dark to bright, except for ``outside``, which is anything."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One outline, filled, or one line, drawn."""

    points: Points
    tissue: Tissue
    width: float = 0.0
    """Width of the line in pixels; 0 fills the closed outline."""


@dataclass(slots=True)
class Heart:
    """Strokes from back to front, and the outline of every chamber to find."""

    strokes: list[Stroke] = field(default_factory=list)
    chambers: dict[str, Points] = field(default_factory=dict)

    def fill(self, points: Points, tissue: Tissue) -> None:
        """Add a filled outline in front of all others."""
        self.strokes.append(Stroke(points, tissue))

    def line(self, points: Points, tissue: Tissue, width: float) -> None:
        """Add a line in front of all others."""
        self.strokes.append(Stroke(points, tissue, width))
