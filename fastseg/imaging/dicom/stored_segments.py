"""The segments of a DICOM SEG file, with the scale that it states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import MaskError
from fastseg.imaging.dicom.content import faults, read_header
from fastseg.imaging.dicom.header import check_limits, decimals, is_segmentation, pixel_format, text
from fastseg.imaging.dicom.pixels import decode
from fastseg.imaging.dicom.quiet import QUIET
from fastseg.imaging.mask_frames import MaskFrames


def read_segments(path: Path, *, max_pixels: int | None) -> MaskFrames:
    """Read the segments of a binary, fractional or label map DICOM SEG.

    Frames of the file that show the same place of the source, by their dimension indices without
    the segment's, are one frame.

    Raises:
        BackendUnavailableError: pydicom is not installed.
        ImageError: The file is damaged or too large.
        MaskError: It is no SEG, or has no segment.
    """
    with faults(path), path.open("rb") as file, QUIET:
        header = read_header(file, str(path), max_pixels=max_pixels)
        if not is_segmentation(header):
            raise MaskError(
                f"{path} is no DICOM SEG but an image. Segment it first, or give its masks."
            )
        form = pixel_format(header, path)
        check_limits(form, path, max_pixels)
        stored = decode(header, path).frames
    names = {
        int(one.SegmentNumber): text(one, "SegmentLabel") or f"segment {one.SegmentNumber}"
        for one in header.get("SegmentSequence") or ()
    }
    if not names:
        raise MaskError(f"{path} is a DICOM SEG without a segment.")
    numbers, places = _frames(header, len(stored))
    kind = text(header, "SegmentationType")
    least = 1.0
    if kind == "FRACTIONAL":
        least = float(header.get("MaximumFractionalValue") or 255) / 2
    order = sorted(names)

    def frame(index: int) -> NDArray[np.bool_]:
        masks = np.zeros((len(order), form.rows, form.columns), np.bool_)
        for own in np.flatnonzero(places == index).tolist():
            if kind == "LABELMAP":
                masks |= stored[own] == np.array(order)[:, None, None]
            else:
                masks[order.index(int(numbers[own]))] |= stored[own] >= least
        return masks

    spacing, between = _scale(header)
    return MaskFrames(
        str(path),
        tuple(names[number] for number in order),
        int(places.max()) + 1,
        (form.rows, form.columns),
        frame,
        spacing,
        between,
    )


def _frames(header: Any, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the segment of each stored frame, and the place that it shows, from 0."""
    numbers, keys = np.ones(count, np.int64), []
    groups = header.get("PerFrameFunctionalGroupsSequence") or ()
    for index in range(count):
        group = groups[index] if index < len(groups) else {}
        segment = (group.get("SegmentIdentificationSequence") or (None,))[0]
        if segment is not None:
            numbers[index] = int(segment.ReferencedSegmentNumber)
        keys.append(_place(header, group, index))
    known = {key: place for place, key in enumerate(sorted(set(keys)))}
    return numbers, np.array([known[key] for key in keys])


def _place(header: Any, group: Any, index: int) -> tuple[float, ...]:
    """Return what tells the frames of different places apart."""
    content = (group.get("FrameContentSequence") or (None,))[0]
    values = content.get("DimensionIndexValues") if content is not None else None
    if values is None:
        return (float(index),)
    indices = list(values) if hasattr(values, "__iter__") else [values]
    pointers = [one.DimensionIndexPointer for one in header.get("DimensionIndexSequence") or ()]
    segment = 0x0062000B  # Referenced Segment Number
    return tuple(
        float(value)
        for place, value in enumerate(indices)
        if place >= len(pointers) or pointers[place] != segment
    ) or (0.0,)


def _scale(header: Any) -> tuple[tuple[float, float] | None, float | None]:
    """Return height and width of a pixel in mm, and the distance of slices."""
    groups = [
        *(header.get("SharedFunctionalGroupsSequence") or ()),
        *(header.get("PerFrameFunctionalGroupsSequence") or ())[:1],
    ]
    for group in groups:
        for measures in group.get("PixelMeasuresSequence") or ():
            sides = decimals(measures, "PixelSpacing")
            between = decimals(measures, "SpacingBetweenSlices") or decimals(
                measures, "SliceThickness"
            )
            if len(sides) == 2 and min(sides) > 0:
                return (sides[0], sides[1]), between[0] if between and between[0] > 0 else None
    return None, None
