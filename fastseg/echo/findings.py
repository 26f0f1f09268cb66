"""A chamber found and measured in one video frame, and the place of that frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastseg.echo.views import RING, VIEWS
from fastseg.echo.volumes import single_plane_volume_ml
from fastseg.errors import MeasurementError
from fastseg.inputs import numbers
from fastseg.masks import Masks
from fastseg.measure import Measurement, Mode, measure


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

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, in the apical views with the single-plane volume."""
        place, chamber = self.place, self.measurement
        about = {"view": place.view, "clip": place.clip, "frame": place.frame, "file": str(place)}
        volume = {} if place.view == "sax" else {"volume_ml": single_plane_volume_ml(chamber)}
        return {**about, "score": self.score, **chamber.as_dict(), **volume}


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
    findings = []
    for chamber in masks:
        if chamber.names == (RING,):
            continue  # an axis and disks mean nothing in the wall
        (measured,) = measure(chamber, cm_per_pixel=cm_per_pixel, mode=mode, threads=threads)
        findings.append(Finding(place, measured, float(chamber.scores[0])))
    return findings


def chambers_of(view: str) -> tuple[str, ...]:
    """Return the names of the masks of a view.

    Raises:
        MeasurementError: There is no such view.
    """
    if view not in VIEWS:
        raise MeasurementError(f"the view is one of {', '.join(VIEWS)}, not {view!r}.")
    return VIEWS[view].chambers
