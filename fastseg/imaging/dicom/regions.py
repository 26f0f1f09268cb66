"""Ultrasound regions and times of a DICOM header."""

from __future__ import annotations

import math
from typing import Any

from fastseg.errors import ImageError
from fastseg.imaging.dicom.header import decimals, whole
from fastseg.imaging.image import RegionKind, Timing, UltrasoundRegion

_TWO_DIMENSIONAL, _CENTIMETRES = 1, 3  # DICOM PS3.3, C.8.5.5.1
_FORMATS: dict[int, RegionKind] = {2: "M-mode", 3: "spectral", 4: "waveform", 5: "graphics"}
_DATA: dict[int, RegionKind] = {1: "tissue", 2: "colour flow"}
_CORNERS = ("MinX0", "MinY0", "MaxX1", "MaxY1")


def ultrasound_regions(header: Any, what: object) -> tuple[UltrasoundRegion, ...]:
    """Read the regions in their order, as the header states them."""
    found = header.get("SequenceOfUltrasoundRegions") or ()
    return tuple(_region(one, what) for one in found)


def _region(region: Any, what: object) -> UltrasoundRegion:
    corners = tuple(_corner(region, name, what) for name in _CORNERS)
    across, down = (
        abs(decimals(region, name)[0]) if decimals(region, name) else 0.0
        for name in ("PhysicalDeltaX", "PhysicalDeltaY")
    )
    units = [region.get(f"PhysicalUnits{axis}Direction") for axis in "XY"]
    known = min(across, down) > 0 and units == [_CENTIMETRES, _CENTIMETRES]
    return UltrasoundRegion(
        _kind(region),
        None if None in corners else corners,  # type: ignore[arg-type]
        (across, down) if known else None,
        region.get("RegionSpatialFormat") == _TWO_DIMENSIONAL,
    )


def _corner(region: Any, name: str, what: object) -> int | None:
    try:
        return whole(region, f"RegionLocation{name}", what)
    except ImageError:
        return None


def _kind(region: Any) -> RegionKind:
    form = region.get("RegionSpatialFormat")
    if form != _TWO_DIMENSIONAL:
        return _FORMATS.get(form, "other")
    return _DATA.get(region.get("RegionDataType"), "other")


def timing(header: Any) -> Timing:
    """Read the time between frames, the heart rate and the R waves; 0 means unknown."""
    vector = decimals(header, "FrameTimeVector")[1:]
    single = decimals(header, "FrameTime")
    rate = decimals(header, "CineRate")
    heart = decimals(header, "HeartRate")
    found = None
    if single and single[0] > 0:
        found = single[0]
    elif vector and sum(vector) > 0:
        found = math.fsum(vector) / len(vector)
    elif rate and rate[0] > 0:
        found = 1000 / rate[0]
    return Timing(
        frame_ms=found,
        heart_rate=heart[0] if heart and heart[0] > 0 else None,
        r_wave_ms=decimals(header, "RWaveTimeVector"),
    )
