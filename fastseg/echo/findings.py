"""A chamber that was found and measured in one frame, and where that frame belongs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastseg.echo.volumes import single_plane_volume_ml
from fastseg.errors import MeasurementError
from fastseg.masks import Masks
from fastseg.measure import Measurement, Mode, measure

CHAMBERS = {
    "a2c": ("LA", "LV"),
    "a4c": ("LA", "LV", "RA", "RV"),
    "sax": ("cavity", "ring", "disc"),
}
"""What the masks of each view show, in order."""

ATRIA = ("LA", "RA")
"""Chambers whose axis may not lie across the heart. A ventricle is longer than wide: its own axis
is right also where the heart lies flat in the frame."""

UNMEASURED = "ring"
"""The wall's own mask, the disc without the cavity: an axis and disks mean nothing in a ring."""

VIEW_NAMES = {
    "a2c": "apical two-chamber view",
    "a4c": "apical four-chamber view",
    "sax": "short-axis view",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame belongs."""

    view: str
    """``"a2c"``, ``"a4c"`` or ``"sax"``."""

    frame: int = 0
    """Its place in the clip, from 0."""

    clip: str = ""
    """Which recording of the view it belongs to."""

    file: str = ""
    """What to call it in the report, instead of by clip and place."""

    def __str__(self) -> str:
        """The frame in words."""
        return self.file or f"{self.clip or self.view} frame {self.frame}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One chamber in one frame."""

    place: Place
    measurement: Measurement
    score: float = math.nan
    """The IoU that the network itself expects of the mask, 0..1; NaN if it is not known."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON. Chambers of the apical views have their single-plane volume too."""
        place, chamber = self.place, self.measurement
        about = {"view": place.view, "clip": place.clip, "frame": place.frame, "file": str(place)}
        volume = {} if place.view == "sax" else {"volume_ml": single_plane_volume_ml(chamber)}
        return {**about, "score": self.score, **chamber.as_dict(), **volume}


def find(
    masks: Masks, place: Place, *, cm_per_pixel: float, mode: Mode = "default", threads: int = 0
) -> list[Finding]:
    """Measure the chambers of one frame; of the short axis the cavity and the disc.

    The axis of an atrium is kept upright, see ``measure``: it is often wider than long.

    Args:
        masks: What a network for the view found in the frame.
        place: Which frame that is.
        cm_per_pixel: Side of a pixel in cm.
        mode: As in ``measure``.
        threads: Processor threads; 0 means every core.

    Raises:
        MeasurementError: There is no such view, or its chambers are not what the masks show.
    """
    expected = chambers_of(place.view)
    if masks.names != expected:
        shown = ", ".join(masks.names or ()) or "nothing that has a name"
        raise MeasurementError(
            f"{place} is a {place.view} view, which shows {', '.join(expected)}, but the masks "
            f"show {shown}. Take the network that was made for this view."
        )
    findings = []
    for chamber in masks:
        (name,) = chamber.names or ()
        if name == UNMEASURED:
            continue
        (measured,) = measure(
            chamber, cm_per_pixel=cm_per_pixel, mode=mode, upright=name in ATRIA, threads=threads
        )
        findings.append(Finding(place, measured, float(chamber.scores[0])))
    return findings


def chambers_of(view: str) -> tuple[str, ...]:
    """What is measured in a view.

    Raises:
        MeasurementError: There is no such view.
    """
    if view not in CHAMBERS:
        raise MeasurementError(f"the view is one of {', '.join(CHAMBERS)}, not {view!r}.")
    return CHAMBERS[view]
