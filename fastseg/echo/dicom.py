"""Ultrasound frames out of a DICOM file, as the machine stored them, with their scale."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.frames import FrameChannels
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, ImageError
from fastseg.images import MAX_PIXELS

_MAGIC, _PREAMBLE = b"DICM", 128
_TWO_DIMENSIONAL, _TISSUE, _CENTIMETRES = 1, 1, 3  # DICOM PS3.3, C.8.5.5.1
_CHANNELS: dict[str, FrameChannels] = {
    "RGB": "rgb",
    "YBR_FULL": "ycbcr",
    "YBR_FULL_422": "ycbcr",
    "MONOCHROME2": "rgb",
}
"""Order of the channels by photometric interpretation; of grey there is only one."""

_SQUARE = 0.01
"""Share by which the two sides of a pixel may differ."""


@dataclass(frozen=True, slots=True)
class DicomClip:
    """The two-dimensional part of a DICOM file."""

    frames: NDArray[np.uint8]
    """(n, H, W) grey or (n, H, W, 3), cropped to the ultrasound region."""

    channels: FrameChannels
    """Order of the channels, as stored."""

    cm_per_pixel: float
    """Side of a pixel in cm."""


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as DICOM files do; False if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False


def read_dicom(
    path: str | os.PathLike[str],
    *,
    cm_per_pixel: float | None = None,
    max_pixels: int | None = MAX_PIXELS,
) -> DicomClip:
    """Read the frames of an ultrasound file.

    The single two-dimensional tissue region is cut out, colours stay as stored (mostly YCbCr), and
    its physical spacing is the scale: steps 1 and 2 of Ferreira et al. 2025. Names and other
    identifying data are neither read nor returned; what is burnt into the pixels stays there.

    Args:
        path: A DICOM file with pixels of 8 bits. Compressed ones need Pillow or another decoder
            that pydicom knows.
        cm_per_pixel: Side of a pixel in cm, instead of the one in the file; a file without regions
            is then taken whole.
        max_pixels: Largest height x width, checked before pixels are decoded; None for no limit.

    Raises:
        BackendUnavailableError: pydicom is not installed.
        ImageError: The file is no such file, or does not say how large its pixels are.
    """
    try:
        import pydicom
        from pydicom.pixels import pixel_array
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "reading DICOM",
            reason=f"{error.name} is not installed",
            remedy=install_hint("dicom"),
        ) from error
    try:
        header = pydicom.dcmread(path)
        channels = _channels(header, path)
        _check_size(header, path, max_pixels)
        region = _region(header.get("SequenceOfUltrasoundRegions") or (), path)
        scale = cm_per_pixel or _scale(region, path)
        stored = pixel_array(header, raw=True)
    except ImageError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged file leads it to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{path} is no DICOM file with pixels that can be read: {reason}. Copy it again, or "
            "save it uncompressed."
        ) from error
    single = stored.ndim == (3 if header.SamplesPerPixel == 3 else 2)
    frames = stored[None] if single else stored
    if region is not None:
        frames = _cut(frames, region, path)
    return DicomClip(np.ascontiguousarray(frames), channels, float(scale))


def _channels(header: Any, path: object) -> FrameChannels:
    photometric = header.get("PhotometricInterpretation", "none")
    if header.get("BitsAllocated") != 8 or photometric not in _CHANNELS:
        raise ImageError(
            f"{path} stores {photometric} in {header.get('BitsAllocated', 'no')} bits. Ultrasound "
            f"frames are {', '.join(_CHANNELS)} in 8 bits: convert it first."
        )
    return _CHANNELS[photometric]


def _check_size(header: Any, path: object, max_pixels: int | None) -> None:
    if max_pixels is not None and header.Rows * header.Columns > max_pixels:
        raise ImageError(
            f"{path} is {header.Columns} x {header.Rows} pixels, more than max_pixels="
            f"{max_pixels:,}. Shrink it, or lift the limit with max_pixels=None."
        )


def _region(regions: Iterable[Any], path: object) -> Any | None:
    """The only two-dimensional region, or of several the only one of tissue; None without any."""
    flat = [one for one in regions if one.get("RegionSpatialFormat") == _TWO_DIMENSIONAL]
    if len(flat) > 1:
        flat = [one for one in flat if one.get("RegionDataType") == _TISSUE]
    if len(flat) > 1:
        raise ImageError(
            f"{path} shows {len(flat)} two-dimensional regions. Cut out the one that matters, and "
            "give it as an array with its cm_per_pixel."
        )
    return flat[0] if flat else None


def _scale(region: Any | None, path: object) -> float:
    """Side of a pixel in cm, as the region says."""
    units = region and (
        region.get("PhysicalUnitsXDirection"),
        region.get("PhysicalUnitsYDirection"),
    )
    if region is None or units != (_CENTIMETRES, _CENTIMETRES):
        raise ImageError(
            f"{path} does not give the size of its pixels in cm. Give cm_per_pixel "
            "(--cm-per-pixel), the side of a pixel in cm."
        )
    across, down = abs(float(region.PhysicalDeltaX)), abs(float(region.PhysicalDeltaY))
    if not (across > 0 and math.isclose(across, down, rel_tol=_SQUARE)):
        raise ImageError(
            f"{path} has pixels of {across} x {down} cm, which are not square. Resize its frames, "
            "and give them as an array with their cm_per_pixel."
        )
    return across


def _cut(frames: NDArray[np.uint8], region: Any, path: object) -> NDArray[np.uint8]:
    """The region of every frame; its corners are pixels that belong to it."""
    x0, y0 = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
    x1, y1 = int(region.RegionLocationMaxX1), int(region.RegionLocationMaxY1)
    height, width = frames.shape[1:3]
    if not (0 <= x0 < x1 < width and 0 <= y0 < y1 < height):
        raise ImageError(
            f"{path} has an ultrasound region {x0} {y0} {x1} {y1} outside its frames of "
            f"{width} x {height} pixels: its header is damaged, or the clip was resized. "
            "Save the frames by numpy.save, and give that file with cm_per_pixel."
        )
    return frames[:, y0 : y1 + 1, x0 : x1 + 1]
