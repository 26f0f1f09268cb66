"""Acceptance of weak labels: limits of the areas and shapes of heart chambers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from training.echo.heart import View

CM_PER_PIXEL = 20 / 256
"""Pixel size of the networks' square."""


@dataclass(frozen=True, slots=True)
class ChamberLimits:
    """Open intervals of a chamber's area and eccentricity."""

    area_cm2: tuple[float, float]
    eccentricity: tuple[float, float]


_VENTRICLE = (4.7, 104.0)
_ATRIUM = (6.0, 75.0)

# The numbers of Ferreira et al., Nat Commun 16, 4070 (2025).
LIMITS: Mapping[View, Mapping[str, ChamberLimits]] = MappingProxyType(
    {
        "a2c": {
            "LA": ChamberLimits(_ATRIUM, (0.3, 0.96)),
            "LV": ChamberLimits(_VENTRICLE, (0.62, 0.96)),
        },
        "a4c": {
            "LA": ChamberLimits(_ATRIUM, (0.3, 0.96)),
            "LV": ChamberLimits(_VENTRICLE, (0.62, 0.96)),
            "RA": ChamberLimits(_ATRIUM, (0.17, 0.95)),
            "RV": ChamberLimits(_VENTRICLE, (0.65, 0.96)),
        },
        # Published as 2000 to 25000 pixels of a 480 square that spans 20 cm.
        "sax": {
            "cavity": ChamberLimits((2000 * (20 / 480) ** 2, 25000 * (20 / 480) ** 2), (-1.0, 0.88))
        },
    }
)
"""Limits of every chamber that is measured before a label is used, by view and name."""


def refusal_reason(view: View, chambers: Mapping[str, NDArray[np.bool_]]) -> str | None:
    """Name the chamber that is out of bounds, or return None if the label can be used.

    Args:
        view: The view whose limits hold.
        chambers: bool (256, 256) by name, cleaned; at least those that the view has limits for.

    Returns:
        For example ``"LV: area out of bounds"``: short, so that equal ones can be counted.
    """
    limits = LIMITS[view]
    shapes = ops.measure_shapes(np.stack([chambers[name] for name in limits]), threads=1)
    for index, (name, allowed) in enumerate(limits.items()):
        if not shapes.areas[index]:
            return f"{name}: not found"
        if not _between(shapes.areas[index] * CM_PER_PIXEL**2, allowed.area_cm2):
            return f"{name}: area out of bounds"
        if not _between(shapes.eccentricity[index], allowed.eccentricity):
            return f"{name}: shape out of bounds"
    return None


def _between(value: float, bounds: tuple[float, float]) -> bool:
    return bool(bounds[0] < value < bounds[1])
