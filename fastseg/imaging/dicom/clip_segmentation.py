"""DICOM SEG of clips without a frame of reference, whose frames are referred to by number.

DICOM asks for a frame of reference only where segments have a place in the patient (PS3.3, C.8.20.2
and A.51); elsewhere the derivation image of each frame names its source. highdicom writes such a
file for one frame. Its description of that frame is repeated here for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.6.1"
"""Ultrasound Image Storage: an image of one frame."""

_FRAME_CONTENT, _TEMPORAL_POSITION = 0x00209111, 0x00209128
_LEVELS = 255


@dataclass(frozen=True, slots=True)
class Clip:
    """The facts of a header that ``as_single_frame`` changes."""

    sop_class: str


def as_single_frame(header: Any) -> Clip:
    """Turn the header of a clip into that of one of its frames."""
    original = Clip(str(header.SOPClassUID))
    header.SOPClassUID = _SINGLE_FRAME
    for name in ("NumberOfFrames", "FrameIncrementPointer", "FrameTime", "FrameTimeVector"):
        if name in header:
            delattr(header, name)
    return original


def repeat_for_frames(made: Any, pixels: NDArray[Any], clip: Clip) -> None:
    """Give a DICOM SEG that describes one frame all frames of a clip.

    Args:
        made: The SEG, with every segment of one frame.
        pixels: (n, H, W, segments), or (n, H, W) of a label map, as ``segmentation`` takes them.
        clip: What the source was.
    """
    templates = list(made.PerFrameFunctionalGroupsSequence)
    planes, groups = [], []
    for number, plane, segment in _planes(pixels, str(made.SegmentationType)):
        group = deepcopy(templates[min(segment, len(templates) - 1)])
        origin = group.DerivationImageSequence[0].SourceImageSequence[0]
        origin.ReferencedSOPClassUID = clip.sop_class
        origin.ReferencedFrameNumber = number
        content = group.FrameContentSequence[0]
        content.TemporalPositionIndex = number
        content.DimensionIndexValues = [*_numbers(content.get("DimensionIndexValues")), number]
        planes.append(plane)
        groups.append(group)
    _index_by_time(made)
    for series in made.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence[0].ReferencedSOPClassUID = clip.sop_class
    for origin in made.get("SourceImageSequence", ()):
        origin.ReferencedSOPClassUID = clip.sop_class
    made.PerFrameFunctionalGroupsSequence = groups
    made.NumberOfFrames = len(planes)
    made.PixelData = _packed(np.stack(planes), int(made.BitsAllocated))


def _planes(pixels: NDArray[Any], kind: str) -> Iterator[tuple[int, NDArray[Any], int]]:
    """Yield frame number, pixels and segment, without empty ones if something is left."""
    keeps_all = not pixels.any()
    for number, frame in enumerate(pixels, start=1):
        if kind == "LABELMAP":
            if keeps_all or frame.any():
                yield number, frame, 0
            continue
        for segment in range(frame.shape[-1]):
            plane = frame[..., segment]
            if keeps_all or plane.any():
                levels = np.rint(plane * _LEVELS) if kind == "FRACTIONAL" else plane
                yield number, levels, segment


def _numbers(values: Any) -> list[int]:
    if values is None:
        return []
    return [int(value) for value in np.atleast_1d(values)]


def _index_by_time(made: Any) -> None:
    """Add the place in time to the dimensions that frames are counted along."""
    dimension = deepcopy(made.DimensionIndexSequence[0])
    dimension.DimensionIndexPointer = _TEMPORAL_POSITION
    dimension.FunctionalGroupPointer = _FRAME_CONTENT
    dimension.DimensionDescriptionLabel = "Temporal Position Index"
    made.DimensionIndexSequence.append(dimension)


def _packed(planes: NDArray[Any], bits: int) -> bytes:
    if bits == 1:
        content = np.packbits(planes.astype(np.bool_).ravel(), bitorder="little").tobytes()
    else:
        content = planes.astype("<u1" if bits == 8 else "<u2").tobytes()
    return content + bytes(len(content) % 2)
