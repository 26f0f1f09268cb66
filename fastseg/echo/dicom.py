"""Reading of ultrasound frames from a DICOM file, as the machine stored them, with their scale."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.dicom_checks import (
    SQUARE,
    check_geometry,
    check_jpeg,
    check_pixels,
    coded_channels,
    not_square,
)
from fastseg.echo.frames import FrameChannels, check_scale
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, ImageError
from fastseg.images import MAX_PIXELS, check_clip
from fastseg.inputs.numbers import shown

_MAGIC, _PREAMBLE = b"DICM", 128
_FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018)
"""Elements that a file without a preamble begins with, of the group 2 or 8."""

_LONGEST_FIRST = 64
"""Longest value of such an element in bytes."""

_TWO_DIMENSIONAL, _TISSUE, _CENTIMETRES = 1, 1, 3  # DICOM PS3.3, C.8.5.5.1
_CORNERS = ("MinX0", "MinY0", "MaxX1", "MaxY1")
_CHANNELS: dict[str, FrameChannels] = {
    "RGB": "rgb",
    "YBR_FULL": "ycbcr",
    "YBR_FULL_422": "ycbcr",
    "MONOCHROME2": "rgb",
}
"""Order of the channels by photometric interpretation; of grey there is only one."""


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
    """Tell if a file begins as DICOM files do; False if it cannot be read."""
    return _start(path)[_PREAMBLE:] == _MAGIC


def begins_without_preamble(path: str | os.PathLike[str]) -> bool:
    """Tell if a file begins with the data elements of DICOM, as old archives wrote it."""
    start = _start(path)
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if group not in (b"\x02\0", b"\x08\0") or element not in _FIRST_ELEMENTS:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or (0 < start[4] <= _LONGEST_FIRST and not any(start[5:8]))


def _start(path: str | os.PathLike[str]) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))
    except (OSError, ValueError):
        return b""


def read_dicom(
    path: str | os.PathLike[str],
    *,
    cm_per_pixel: float | None = None,
    channels: FrameChannels | None = None,
    max_pixels: int | None = MAX_PIXELS,
) -> DicomClip:
    """Read the frames of an ultrasound file.

    The single two-dimensional tissue region is cut out, colours stay as stored (mostly YCbCr), and
    its physical spacing is the scale: steps 1 and 2 of Ferreira et al. 2025. Names and other
    identifying data are neither read nor returned; what is burnt into the pixels stays there. A
    header that contradicts itself or the pixels is refused.

    Args:
        path: A DICOM file with pixels of 8 bits. Compressed ones need Pillow or another decoder
            that pydicom knows.
        cm_per_pixel: Side of a pixel in cm, instead of the one in the file; a file without regions
            is then taken whole.
        channels: Order of the channels where header and pixels contradict each other; None refuses
            such a file. Elsewhere the header decides.
        max_pixels: Largest height x width, checked before pixels are decoded; None for no limit.

    Raises:
        BackendUnavailableError: pydicom is not installed.
        ImageError: The file is no such file, does not say how large its pixels are, or contradicts
            itself.
    """
    if not isinstance(path, str | os.PathLike):
        raise ImageError(f"{shown(path)} is no path of a DICOM file.")
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
        order = _channels(header, path)
        _check_size(header, path, max_pixels)
        check_geometry(header, path)
        region = _region(header.get("SequenceOfUltrasoundRegions") or (), path)
        own = region and _region_spacing(region, path)
        scale = cm_per_pixel or _scale(header, own, path)
        coded = check_jpeg(header, path)
        # Pillow alone decodes JPEG in a way that coded_channels knows.
        plugin = "pillow" if coded else ""
        stored = pixel_array(header, raw=True, decoding_plugin=plugin)
        single = stored.ndim == (3 if header.SamplesPerPixel == 3 else 2)
        frames = check_pixels(stored[None] if single else stored, header, path)
        if region is not None:
            frames = _cut(frames, region, path)
        order = coded_channels(frames, order, coded, given=channels, path=path)
        check_scale(frames.shape[1:3], scale, str(path))
    except ImageError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged file leads it to
        raise _unreadable(path, error) from error
    return DicomClip(np.ascontiguousarray(frames), order, float(scale))


def _unreadable(path: str | os.PathLike[str], error: Exception) -> ImageError:
    """Return the error about a file that pydicom cannot read; its own words are the cause."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{path}: no such file. Check the path.")
    if isinstance(error, OSError) and error.strerror:
        return ImageError(f"{path} cannot be read: {error.strerror}. Check the path.")
    if begins_without_preamble(path):
        return ImageError(
            f"{path} is DICOM without preamble and file header, so that its encoding is not known. "
            "Write it again with them, for example by dcmconv of DCMTK."
        )
    if not is_dicom(path):
        return ImageError(f"{path} is no DICOM file. Give one, or an image or array.")
    return ImageError(
        f"{path} is a DICOM file that is damaged, or compressed in a way that pydicom and Pillow "
        "cannot decode here. Copy it again, or save it uncompressed, for example by dcmdjpeg of "
        "DCMTK."
    )


def _channels(header: Any, path: object) -> FrameChannels:
    if "PixelData" not in header:
        raise ImageError(f"{path} holds no pixels. Give a file of frames.")
    for name in ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"):
        if not header.get(name):
            raise ImageError(
                f"{path} lacks {name} in its header: it is damaged. Copy it again, or save its "
                "frames by numpy.save."
            )
    photometric, bits = header.PhotometricInterpretation, header.get("BitsAllocated")
    if photometric not in _CHANNELS:
        raise ImageError(
            f"{path} stores {photometric}. Ultrasound frames are {', '.join(_CHANNELS)}: convert "
            "it, for example by dcm2img of DCMTK, or save its frames by numpy.save."
        )
    if bits != 8:
        raise ImageError(
            f"{path} stores {photometric} in {'no stated' if bits is None else bits} bits. "
            "Ultrasound frames have 8: scale them to 0..255 and save them by numpy.save."
        )
    return _CHANNELS[photometric]


def _check_size(header: Any, path: object, max_pixels: int | None) -> None:
    if max_pixels is not None and header.Rows * header.Columns > max_pixels:
        raise ImageError(
            f"{path} is {header.Columns} x {header.Rows} pixels, more than max_pixels="
            f"{max_pixels:,}. Shrink it, or lift the limit with max_pixels=None."
        )
    frames = int(header.get("NumberOfFrames") or 1)
    check_clip(frames, header.Columns, header.Rows, str(path), max_pixels)


def _region(regions: Iterable[Any], path: object) -> Any | None:
    """Find the only two-dimensional region, or of several the only one of tissue; else None."""
    flat = [one for one in regions if one.get("RegionSpatialFormat") == _TWO_DIMENSIONAL]
    if len(flat) > 1:
        flat = [one for one in flat if one.get("RegionDataType") == _TISSUE]
    if len(flat) > 1:
        raise ImageError(
            f"{path} shows {len(flat)} two-dimensional regions. Cut out the one that matters, and "
            "give it as an array with its cm_per_pixel."
        )
    return flat[0] if flat else None


def _region_spacing(region: Any, path: object) -> float | None:
    """Return the side of a pixel in cm that a region states; None if it states none in cm.

    Raises:
        ImageError: The pixels are not square.
    """
    across, down = (
        abs(float(region.get(name) or 0)) for name in ("PhysicalDeltaX", "PhysicalDeltaY")
    )
    units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
    if not (math.isfinite(across) and math.isfinite(down) and min(across, down) > 0):
        return None
    if units[0] == units[1] and not math.isclose(across, down, rel_tol=SQUARE):
        raise not_square(f"{across:g} x {down:g}", "its region", path)
    return across if units == (_CENTIMETRES, _CENTIMETRES) else None


def _scale(header: Any, own: float | None, path: object) -> float:
    """Return the side of a pixel in cm, if the file states one and nothing contradicts it."""
    if own is None:
        raise ImageError(
            f"{path} does not say how large its pixels are in cm. Give cm_per_pixel "
            "(--cm-per-pixel), the side of a pixel in cm."
        )
    spacing = header.get("PixelSpacing")
    if spacing and not math.isclose(own, (other := float(spacing[0]) / 10), rel_tol=SQUARE):
        raise ImageError(
            f"{path} states pixels of {own:g} cm in its region and of {other:g} cm in PixelSpacing."
            " Give the right one by cm_per_pixel (--cm-per-pixel)."
        )
    return own


def _cut(frames: NDArray[np.uint8], region: Any, path: object) -> NDArray[np.uint8]:
    """Cut the region out of every frame; its corners are pixels that belong to it."""
    corners = [region.get(f"RegionLocation{corner}") for corner in _CORNERS]
    if None in corners:
        raise ImageError(
            f"{path} has an ultrasound region without corners: its header is damaged. Save the "
            "frames by numpy.save, and give that file with cm_per_pixel."
        )
    x0, y0, x1, y1 = map(int, corners)
    height, width = frames.shape[1:3]
    # Some machines count the far corner as the first pixel beyond the region.
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ImageError(
            f"{path} has an ultrasound region {x0} {y0} {x1} {y1} outside its frames of "
            f"{width} x {height} pixels: its header is damaged, or the clip was resized. "
            "Save the frames by numpy.save, and give that file with cm_per_pixel."
        )
    return frames[:, y0 : y1 + 1, x0 : x1 + 1]
