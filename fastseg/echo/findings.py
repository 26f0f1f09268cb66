"""A chamber found and measured in one video frame, and the place of that frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastseg.echo.views import RING, VIEWS
from fastseg.echo.volumes import single_plane_volume_ml
from fastseg.errors import MeasurementError
from fastseg.inputs import numbers
from fastseg.masks import Masks
from fastseg.measure import Measurement, Mode, measure

ACROSS_DEGREES = 45.0
"""Angle of an axis to the line of ventricle and atrium from which it runs across the chamber."""

_PARTNERS = {"LV": "LA", "LA": "LV", "RV": "RA", "RA": "RV"}
"""The chamber behind the same valve."""


@dataclass(frozen=True, slots=True)
class Place:
    """The view, clip and position of a video frame."""

    view: str
    """``"a2c"``, ``"a4c"`` or ``"sax"``."""

    frame: int = 0
    """Its index in the clip, from 0."""

    clip: str = ""
    """The recording of the view that it belongs to."""

    file: str = ""
    """Its name in the report, instead of clip and index."""

    def __str__(self) -> str:
        """Name the frame in words."""
        return self.file or f"{self.clip or self.view} frame {self.frame}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One chamber in one frame."""

    place: Place
    measurement: Measurement
    score: float = math.nan
    """The IoU that the network itself expects of the mask, 0..1; NaN if it is not known."""

    axis_doubt: str = ""
    """The reason why the long axis is not that of the chamber, in words; empty if it may be."""

    @property
    def volume_ml(self) -> float:
        """Volume by the disks of this view alone; NaN with an axis across the chamber."""
        withheld = self.axis_doubt and self.measurement.mode == "default"
        return math.nan if withheld else single_plane_volume_ml(self.measurement)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, in the apical views with the single-plane volume."""
        place, chamber = self.place, self.measurement
        about = {"view": place.view, "clip": place.clip, "frame": place.frame, "file": str(place)}
        apical = {"volume_ml": self.volume_ml, "axis_doubt": self.axis_doubt}
        more = {} if place.view == "sax" else apical
        return {**about, "score": self.score, **chamber.as_dict(), **more}


def find(
    masks: Masks, place: Place, *, cm_per_pixel: float, mode: Mode = "default", threads: int = 0
) -> list[Finding]:
    """Measure the chambers of one frame; of the short axis the cavity and the disc.

    Args:
        masks: The masks of a network for the view.
        place: The frame.
        cm_per_pixel: Side of a pixel in cm.
        mode: As in ``measure``.
        threads: Processor threads; 0 means every core.

    Raises:
        MeasurementError: ``masks`` or ``place`` is of another type, there is no such view, or its
            chambers are not what the masks show.
    """
    if not isinstance(masks, Masks) or not isinstance(place, Place):
        raise MeasurementError(
            "find takes the Masks of a network and a Place, not "
            f"{numbers.shown(masks)} and {numbers.shown(place)}."
        )
    expected = chambers_of(place.view)
    if masks.names != expected:
        shown = ", ".join(masks.names or ()) or "nothing that has a name"
        raise MeasurementError(
            f"{place} is a {place.view} view, which shows {', '.join(expected)}, but the masks "
            f"show {shown}. Take the network that was made for this view."
        )
    # An axis and disks mean nothing in the wall.
    chosen = masks[[index for index, name in enumerate(expected) if name != RING]]
    measured = measure(chosen, cm_per_pixel=cm_per_pixel, mode=mode, threads=threads)
    named = {chamber.name: chamber for chamber in measured}
    return [
        Finding(place, chamber, float(score), axis_doubt(chamber, named))
        for chamber, score in zip(measured, chosen.scores, strict=True)
    ]


def axis_doubt(chamber: Measurement, beside: Mapping[str, Measurement]) -> str:
    """Say that a long axis runs across its chamber; empty if it does not.

    The axis of a ventricle runs from the valve to the apex, and the atrium lies behind the valve:
    so it lies within 45 degrees of the line between the centroids of the two. Where the other
    chamber was not found the line is the vertical, as hearts lie in apical views. Chambers of the
    short axis have no such line.

    Args:
        chamber: The chamber with the axis.
        beside: The chambers of the same frame, by name.
    """
    if chamber.name not in _PARTNERS or math.isnan(chamber.orientation_rad):
        return ""
    other = _PARTNERS[chamber.name]
    line, words = 0.0, "the vertical"
    partner = beside.get(other)
    if partner is not None and not math.isnan(partner.centroid_px[0]):
        (x, y), (to_x, to_y) = chamber.centroid_px, partner.centroid_px
        line, words = math.atan2(to_x - x, to_y - y), f"the line to {other}"
    # Directions of an axis are equal after half a turn.
    apart = abs((chamber.orientation_rad - line + math.pi / 2) % math.pi - math.pi / 2)
    if math.degrees(apart) <= ACROSS_DEGREES:
        return ""
    return (
        f"the axis runs across {chamber.name}: {math.degrees(apart):.0f} degrees from {words}, "
        f"where {ACROSS_DEGREES:.0f} are the limit"
    )


def chambers_of(view: str) -> tuple[str, ...]:
    """Return the names of the masks of a view.

    Raises:
        MeasurementError: There is no such view.
    """
    if view not in VIEWS:
        raise MeasurementError(f"the view is one of {', '.join(VIEWS)}, not {view!r}.")
    return VIEWS[view].chambers
