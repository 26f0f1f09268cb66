"""Chambers whose size is known exactly, drawn as masks and as measurements, for tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.findings import Finding, Place
from fastseg.echo.views import VIEWS
from fastseg.masks import Masks
from fastseg.measure import DISKS, Measurement
from tests.helpers.made_masks import drawn

SIDE = 256
CM_PER_PIXEL = 20 / SIDE

Body = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
"""True where a place belongs to a body: cm along its axis, downwards, and cm across it."""


def ellipse(half_length_cm: float, half_width_cm: float) -> Body:
    return lambda along, across: (along / half_length_cm) ** 2 + (across / half_width_cm) ** 2 <= 1


def truncated(half_length_cm: float, half_width_cm: float, cut: float) -> Body:
    """Cut an ellipse at ``cut`` of its lower half; 0 leaves its upper half."""
    whole = ellipse(half_length_cm, half_width_cm)
    return lambda along, across: whole(along, across) & (along <= cut * half_length_cm)


def draw(body: Body, *, tilt: float = 0.0, centre: tuple[float, float] = (0.13, -0.41)):
    """Draw the mask, bool (256, 256), of a body whose axis is turned by ``tilt`` radians.

    ``centre`` is where its origin lies, in cm below and right of the middle of the frame.
    """
    rows, columns = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2) * CM_PER_PIXEL
    down, right = rows - centre[0], columns - centre[1]
    along = down * math.cos(tilt) + right * math.sin(tilt)
    across = -down * math.sin(tilt) + right * math.cos(tilt)
    return body(along, across)


def named(view: str, pixels: NDArray[np.bool_]) -> Masks:
    """Give masks the names of a view's chambers."""
    return replace(drawn(pixels), names=VIEWS[view].chambers)


def chamber(name: str = "LV", **known: Any) -> Measurement:
    """Make a measurement of which only some fields matter."""
    point = (math.nan, math.nan)
    fields: dict[str, Any] = {
        "name": name,
        "mode": "default",
        "cm_per_pixel": CM_PER_PIXEL,
        "area_cm2": 20.0,
        "convex_area_cm2": 21.0,
        "length_cm": 8.4,
        "diameters_cm": (4.0,) * DISKS,
        "eccentricity": 0.8,
        "solidity": 20 / 21,
        "centroid_px": point,
        "orientation_rad": 0.0,
        "axis_px": (point, point),
        "chords_px": ((point, point),) * DISKS,
        "pieces": 1,
        "reason": "",
    }
    return Measurement(**{**fields, **known})


def clip(view: str, name: str, areas: Sequence[float], *, clip: str = "", **known: Any):
    """Make a chamber with these areas in the frames of a clip; its width follows its area."""
    return [
        Finding(
            Place(view, frame, clip),
            chamber(name, area_cm2=area, diameters_cm=(area / 8.4,) * DISKS, **known),
        )
        for frame, area in enumerate(areas)
    ]
