"""Reading of ultrasound frames from a DICOM file, as the machine stored them, with their scale."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.dicom_checks import SQUARE, check_geometry, coded_channels, not_square
from fastseg.echo.dicom_regions import depth_cautions, fit_region
from fastseg.echo.frames import FrameChannels, check_scale
from fastseg.echo.views import CODES
from fastseg.errors import ImageError
from fastseg.images import MAX_PIXELS
from fastseg.imaging import Timing, UltrasoundRegion
from fastseg.imaging.dicom import (
    QUIET,
    StoredPixels,
    begins_without_preamble,
    check_limits,
    decimals,
    decode,
    faults,
    is_dicom,
    pixel_format,
    read_elements,
    read_header,
    study_hash,
    timing,
    ultrasound_regions,
)
from fastseg.inputs.numbers import shown

__all__ = [
    "DicomClip",
    "StudyHeader",
    "begins_without_preamble",
    "is_dicom",
    "read_dicom",
    "read_study_header",
]


@dataclass(frozen=True, slots=True)
class DicomClip:
    """The two-dimensional part of a DICOM file."""

    frames: NDArray[np.uint8]
    """(n, H, W) grey or (n, H, W, 3), cropped to the ultrasound region."""

    channels: FrameChannels
    """Order of the channels, as stored; of a palette's colours RGB."""

    cm_per_pixel: float
    """Side of a pixel in cm."""

    timing: Timing = field(default_factory=Timing)
    """Time between frames, heart rate and R waves, as far as the file states them."""

    cautions: tuple[str, ...] = ()
    """Sentences about the scale and the region that a reader of the numbers has to know."""


def read_dicom(
    path: str | os.PathLike[str],
    *,
    cm_per_pixel: float | None = None,
    channels: FrameChannels | None = None,
    whole_frame: bool = False,
    max_pixels: int | None = MAX_PIXELS,
) -> DicomClip:
    """Read the frames of an ultrasound file.

    The single two-dimensional tissue region is cut out, colours stay as stored (mostly YCbCr), and
    its physical spacing is the scale: steps 1 and 2 of Ferreira et al. 2025. Regions of spectra,
    M-mode and curves do not count, and one of colour flow counts where there is none of tissue.
    A region that fits the screen which the frames were reduced from is reduced with them.
    Names and other identifying data are neither read nor returned; what is burnt into the pixels
    stays there. A header that contradicts itself or the pixels is refused.

    Args:
        path: A DICOM file with pixels of 8 bits or with a palette, in any transfer syntax that
            ``fastseg.imaging`` decodes.
        cm_per_pixel: Side of a pixel in cm, instead of the one in the file; a file without regions
            is then taken whole.
        channels: Order of the channels where header and pixels contradict each other; None refuses
            such a file. Elsewhere the header decides.
        whole_frame: Take the whole frame, whatever regions the file states.
        max_pixels: Largest height x width, checked before pixels are decoded; None for no limit.

    Raises:
        BackendUnavailableError: pydicom, or the decoder that the file needs, is not installed.
        ImageError: The file is no such file, does not say how large its pixels are, or contradicts
            itself.
    """
    if not isinstance(path, str | os.PathLike):
        raise ImageError(f"{shown(path)} is no path of a DICOM file.")
    with faults(path), Path(path).open("rb") as file, QUIET:
        header = read_header(file, str(path), max_pixels=max_pixels)
        form = pixel_format(header, path)
        check_limits(form, path, max_pixels)
        check_geometry(header, form, path)
        size = (form.rows, form.columns)
        region, cautions = fit_region(_region(ultrasound_regions(header, path), path), size)
        scale = cm_per_pixel or _scale(header, region, path)
        stored = decode(header, path)
        frames = stored.frames
        if region is not None and not whole_frame:
            x0, y0, x1, y1 = region.box(size, path)
            frames = frames[:, y0:y1, x0:x1]
        order = _channels(frames, stored, channels, path)
        check_scale(frames.shape[1:3], scale, str(path))
        cautions += depth_cautions(frames.shape[1] * scale)
        if form.photometric == "MONOCHROME1":
            frames = 255 - frames
        whole = np.ascontiguousarray(frames)
        return DicomClip(whole, order, float(scale), timing(header), cautions)


@dataclass(frozen=True, slots=True)
class StudyHeader:
    """The study of a DICOM file, as its header states it."""

    view: str | None = None
    """View of the heart by its code, if it is one that there is a network for."""

    other_view: str = ""
    """Name of the view, if it is another one."""

    group: str = ""
    """Hash of the patient's identifier and the study; equal for files of one study."""


def read_study_header(path: str | os.PathLike[str]) -> StudyHeader:
    """Read the view and the study of a DICOM file from its header; pixels are not read.

    The patient's identifier is hashed by a key that is made anew for each process, and neither kept
    nor returned.

    Raises:
        BackendUnavailableError: pydicom is not installed.
        ImageError: The file is damaged.
    """
    with faults(path), Path(path).open("rb") as file, QUIET:
        header = read_elements(file, ("ViewCodeSequence",))
        coded = [
            (str(one.get("CodingSchemeDesignator") or ""), str(one.get("CodeValue") or ""))
            for one in header.get("ViewCodeSequence") or ()
        ]
        meanings = [
            str(one.get("CodeMeaning") or "") for one in header.get("ViewCodeSequence") or ()
        ]
    view = next((CODES[code] for code in coded if code in CODES), None)
    other = "" if view or not coded else meanings[0] or " ".join(coded[0])
    return StudyHeader(view, other, study_hash(path))


def _channels(
    frames: NDArray[np.uint8], stored: StoredPixels, given: FrameChannels | None, path: object
) -> FrameChannels:
    if stored.from_palette or stored.order == "grey":
        return "rgb"
    return coded_channels(frames, stored.order, stored.coded, given=given, path=path)


def _region(regions: tuple[UltrasoundRegion, ...], path: object) -> UltrasoundRegion | None:
    """Find the only two-dimensional region, or of several the only one of tissue; else None."""
    flat = [one for one in regions if one.is_flat]
    if len(flat) > 1:
        flat = [one for one in flat if one.kind == "tissue"] or flat
    if len(flat) > 1:
        raise ImageError(
            f"{path} shows {len(flat)} two-dimensional regions. Cut out the one that matters, and "
            "give it as an array with its cm_per_pixel."
        )
    if not flat:
        return None
    sides = flat[0].pixel_cm
    if sides is not None and not math.isclose(*sides, rel_tol=SQUARE):
        raise not_square(f"{sides[0]:g} x {sides[1]:g}", "its region", path)
    return flat[0]


def _scale(header: Any, region: UltrasoundRegion | None, path: object) -> float:
    """Return the side of a pixel in cm, if the file states one and nothing contradicts it."""
    if region is None or region.pixel_cm is None:
        raise ImageError(
            f"{path} does not say how large its pixels are in cm. Give cm_per_pixel "
            "(--cm-per-pixel), the side of a pixel in cm."
        )
    own = region.pixel_cm[0]
    spacing = decimals(header, "PixelSpacing")
    if spacing and not math.isclose(own, (other := spacing[0] / 10), rel_tol=SQUARE):
        raise ImageError(
            f"{path} states pixels of {own:g} cm in its region and of {other:g} cm in PixelSpacing."
            " Give the right one by cm_per_pixel (--cm-per-pixel)."
        )
    return own
