"""Sector of a phased array, and the mapping between its polar grid and the square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

SIDE = 256
"""Pixels of the square's side: 20 cm, so 0.078125 cm per pixel."""

RANGES = 224
"""Samples along a beam."""

BEAMS = 144
"""Beams across the sector."""

Points = NDArray[np.float64]
"""Points ``(n, 2)`` of the square in pixels, x before y."""


@dataclass(frozen=True, slots=True)
class Sector:
    """A circular sector that opens downwards from the probe."""

    probe: tuple[float, float]
    """Origin of all beams, x and y in pixels; may lie above the square."""
    depth: float
    """Length of a beam in pixels."""
    half_angle: float
    """Angle between the middle beam and either edge, in radians."""
    start: float
    """Pixels from ``probe`` at which the image starts."""

    def to_polar(self, points: Points) -> Points:
        """Map points to beam and sample: ``(n, 2)``, fractions of the grid's pixels, beam first."""
        across, down = points[:, 0] - self.probe[0], points[:, 1] - self.probe[1]
        beam = (np.arctan2(across, down) / self.half_angle + 1) / 2 * BEAMS
        return np.stack([beam, np.hypot(across, down) / self.depth * RANGES], axis=1)

    def visible(self) -> NDArray[np.bool_]:
        """Return the mask (SIDE, SIDE) of the square's pixels inside the sector."""
        across = np.arange(SIDE, dtype=np.float32)[None, :] + np.float32(0.5 - self.probe[0])
        down = np.arange(SIDE, dtype=np.float32)[:, None] + np.float32(0.5 - self.probe[1])
        distance = np.hypot(across, down)
        within = (distance <= self.depth) & (distance >= self.start)
        return np.asarray(within & (np.abs(np.arctan2(across, down)) <= self.half_angle))

    def scan_convert(self, plane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Resample a polar plane (RANGES, BEAMS) on the square.

        Returns:
            The image (SIDE, SIDE), 0 outside the sector, and the mask of the sector.
        """
        across = torch.arange(SIDE, dtype=torch.float32)[None, :] + 0.5 - self.probe[0]
        down = torch.arange(SIDE, dtype=torch.float32)[:, None] + 0.5 - self.probe[1]
        angle = torch.atan2(across, down) / self.half_angle
        distance = torch.hypot(across, down)
        inside = torch.from_numpy(self.visible())
        grid = torch.stack([angle, distance * (2 / self.depth) - 1], dim=-1)[None]
        image = functional.grid_sample(
            plane[None, None], grid, padding_mode="border", align_corners=False
        )[0, 0]
        return image * inside, inside
