"""DICOM files as medical images."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.images import MAX_PIXELS
from fastseg.imaging.dicom.content import faults, read_header
from fastseg.imaging.dicom.geometry import affine_of, functional_group, planes_of
from fastseg.imaging.dicom.header import (
    check_limits,
    decimals,
    is_segmentation,
    pixel_format,
    text,
)
from fastseg.imaging.dicom.pixels import Colours, StoredPixels, as_rgb, decode
from fastseg.imaging.dicom.quiet import QUIET
from fastseg.imaging.dicom.regions import timing, ultrasound_regions
from fastseg.imaging.image import MedicalImage, Table
from fastseg.imaging.window import Window, WindowFunction

_FUNCTIONS: dict[str, WindowFunction] = {"SIGMOID": "sigmoid", "LINEAR_EXACT": "exact"}


def read_dicom_image(
    path: str | os.PathLike[str],
    *,
    channels: Colours | None = None,
    max_pixels: int | None = MAX_PIXELS,
) -> MedicalImage:
    """Read one DICOM file of one or many frames, in the window that it states.

    Args:
        path: The file.
        channels: Order of the channels where header and JPEG frames contradict each other.
        max_pixels: Largest height x width in pixels; None for no limit.

    Raises:
        BackendUnavailableError: pydicom or the decoder that the file needs is not installed.
        ImageError: The file is damaged, holds no pixels, is too large, or contradicts itself.
    """
    with faults(path), Path(path).open("rb") as file:
        image = read_open_image(file, str(path), channels=channels, max_pixels=max_pixels)
    return replace(image, files=tuple((str(path), index) for index in range(len(image))))


def read_open_image(
    file: BinaryIO, what: str, *, channels: Colours | None = None, max_pixels: int | None
) -> MedicalImage:
    """Read one DICOM file that is open; pydicom's own errors come through."""
    with QUIET:
        header = read_header(file, what, max_pixels=max_pixels)
        form = pixel_format(header, what)
        check_limits(form, what, max_pixels)
        return image_of(header, decode(header, what, form), what, channels=channels)


def image_of(
    header: Any, pixels: StoredPixels, what: str, *, channels: Colours | None = None
) -> MedicalImage:
    """Put the decoded pixels of a file together with what its header says of them."""
    frames = pixels.frames if pixels.order == "grey" else as_rgb(pixels, what, given=channels)
    count = len(frames)
    planes = planes_of(header, count)
    affine, distance = affine_of(planes)
    slope, intercept = _rescale(header, pixels, count, what)
    is_grey = pixels.order == "grey" and not is_segmentation(header)
    frames, slope, intercept = _through_table(header, frames, slope, intercept, what)
    return MedicalImage(
        stored=frames,
        slope=slope,
        intercept=intercept,
        window=_window(header) if is_grey else None,
        table=_level_table(header) if is_grey else None,
        inverted=is_grey and text(header, "PhotometricInterpretation") == "MONOCHROME1",
        spacing=planes[0].spacing,
        slice_spacing=distance,
        affine=affine,
        modality=text(header, "Modality"),
        regions=ultrasound_regions(header, what),
        timing=timing(header),
        name=what,
    )


def _rescale(
    header: Any, pixels: StoredPixels, count: int, what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and intercept of each frame; labels and colours have none."""
    slope, intercept = np.ones(count), np.zeros(count)
    if pixels.order != "grey" or is_segmentation(header):
        return slope, intercept
    dose = decimals(header, "DoseGridScaling")
    if dose:
        return slope * dose[0], intercept
    # One for all frames, unless the header has something to say of each.
    stated = count if header.get("PerFrameFunctionalGroupsSequence") else 1
    groups = [
        functional_group(header, index, "PixelValueTransformationSequence")
        for index in range(stated)
    ]
    slope[:] = [(decimals(group, "RescaleSlope") or (1.0,))[0] for group in groups]
    intercept[:] = [(decimals(group, "RescaleIntercept") or (0.0,))[0] for group in groups]
    if not slope.all():
        raise ImageError(
            f"{what} states a rescale slope of 0, which makes all values equal: its header is "
            "damaged. Export it again."
        )
    return slope, intercept


def _through_table(
    header: Any,
    frames: NDArray[Any],
    slope: NDArray[np.float64],
    intercept: NDArray[np.float64],
    what: str,
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Replace stored numbers by the entries of a modality table, if the file has one."""
    found = _lookup(header, "ModalityLUTSequence")
    if found is None or frames.ndim != 3:
        return frames, slope, intercept
    first, entries, _ = found
    if not len(entries):
        raise ImageError(f"{what} has an empty modality table: it is damaged. Export it again.")
    values = np.empty(frames.shape, np.uint16)
    for frame, out in zip(frames, values, strict=True):
        out[...] = entries[np.clip(frame.astype(np.int64) - first, 0, len(entries) - 1)]
    return values, np.ones(len(frames)), np.zeros(len(frames))


def _lookup(header: Any, name: str) -> tuple[int, NDArray[np.uint16], int] | None:
    """Return the first value, the entries and the bits of a table in the header."""
    items = header.get(name) or ()
    if not items:
        return None
    count, first, bits = (int(value) for value in items[0].LUTDescriptor)
    data = items[0].LUTData
    order = "<u2" if header.original_encoding[1] else ">u2"
    entries = np.frombuffer(data, order) if isinstance(data, bytes) else np.array(data)
    count = (count & 0xFFFF) or 65_536
    # A first value above 32767 is one below 0 that was read without its sign.
    return first - 65_536 if first > 32_767 else first, entries[:count].astype(np.uint16), bits


def _level_table(header: Any) -> Table | None:
    """Return the table of levels that takes the place of a window."""
    found = _lookup(header, "VOILUTSequence")
    if found is None or not len(found[1]):
        return None
    first, entries, bits = found
    highest = 2 ** min(max(bits, 1), 16) - 1
    return first, np.rint(np.minimum(entries / highest, 1) * 255).astype(np.uint8)


def _window(header: Any) -> Window | None:
    """Return the first window of the file; None if it states none of more than no width."""
    group = functional_group(header, 0, "FrameVOILUTSequence")
    centre, width = decimals(group, "WindowCenter"), decimals(group, "WindowWidth")
    if not centre or not width or not width[0] > 0 or not math.isfinite(centre[0]):
        return None
    function = _FUNCTIONS.get(text(group, "VOILUTFunction"), "linear")
    if function == "linear" and width[0] < 1:
        return None
    return Window(centre[0], width[0], function)
