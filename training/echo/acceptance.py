"""Which weak labels are good enough to learn from: areas and shapes that hearts have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from training.echo.heart import View

CM_PER_PIXEL = 20 / 256
"""Of the networks' square."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a chamber may measure; both ends are excluded."""

    area_cm2: tuple[float, float]
    eccentricity: tuple[float, float]


_VENTRICLE = (4.7, 104.0)
_ATRIUM = (6.0, 75.0)

# The numbers of Ferreira et al., Nat Commun 16, 4070 (2025).
LIMITS: Mapping[View, Mapping[str, Limits]] = MappingProxyType(
    {
        "a2c": {"LA": Limits(_ATRIUM, (0.3, 0.96)), "LV": Limits(_VENTRICLE, (0.62, 0.96))},
        "a4c": {
            "LA": Limits(_ATRIUM, (0.3, 0.96)),
            "LV": Limits(_VENTRICLE, (0.62, 0.96)),
            "RA": Limits(_ATRIUM, (0.17, 0.95)),
            "RV": Limits(_VENTRICLE, (0.65, 0.96)),
        },
        # Published as 2000 to 25000 pixels of a 480 square that spans 20 cm.
        "sax": {"cavity": Limits((2000 * (20 / 480) ** 2, 25000 * (20 / 480) ** 2), (-1.0, 0.88))},
    }
)
"""Limits of every chamber that is measured before a label is used, by view and name."""


def refusal(view: View, chambers: Mapping[str, NDArray[np.bool_]]) -> str | None:
    """Say in words which chamber is out of bounds, or None if the label can be used.

    Args:
        view: Whose limits hold.
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
