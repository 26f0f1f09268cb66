"""Reading of medical images of every kind that is known, told apart by their content."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.images import MAX_PIXELS, check_clip, check_size
from fastseg.images.reader_faults import reader_faults
from fastseg.imaging import nifti, nrrd
from fastseg.imaging.archive import dicom_members
from fastseg.imaging.dicom.content import MAGIC, PREAMBLE, begins_without_preamble
from fastseg.imaging.dicom.image import read_dicom_image
from fastseg.imaging.dicom.pixels import Colours
from fastseg.imaging.dicom.series import Opened, read_series
from fastseg.imaging.image import MedicalImage
from fastseg.imaging.image_files import is_frame, plain_image, read_frame_folder, read_image_file
from fastseg.imaging.stacks import GZIP, open_maybe_packed
from fastseg.imaging.video import is_video, read_video
from fastseg.imaging.window import WindowChoice
from fastseg.inputs.numbers import one_of, real_array, shown, whole_number

Source: TypeAlias = str | os.PathLike[str] | NDArray[Any]

_ZIP = b"PK\x03\x04"
_LONGEST_START = 352


def read(
    source: Source,
    *,
    window: WindowChoice | None = None,
    spacing: tuple[float, ...] | None = None,
    series: str | None = None,
    channels: Colours | None = None,
    max_pixels: int | None = MAX_PIXELS,
) -> MedicalImage:
    """Read an image, a clip or a volume with the meaning of its values and pixels.

    Args:
        source: A DICOM file of one or many frames, a folder or a zip archive of a DICOM series,
            NIfTI, NRRD, a video, an image file of 8 or 16 bits or with several pages, a folder of
            such files as the frames of one clip, or an array: (H, W), (n, H, W), or uint8 with 3
            channels at the end.
        window: The values that ``view`` shows, for models: a name of ``WINDOWS`` (CT), ``"file"``,
            ``"percentile:0.5,99.5"`` of all values, ``"nonzero:0.5,99.5"`` of those above 0,
            ``"medsam"``: soft tissue for CT, the last one for others; centre and width as a pair
            or a text ``"40,400"``; or a ``Window``. None takes the window of the file if it states
            one.
        spacing: Of an array, or instead of the file's: height and width of a pixel in mm, with the
            distance of slices before them if there are any.
        series: End of the identifier of a series, where a folder holds several.
        channels: Colours of a DICOM file whose header and JPEG frames contradict each other,
            ``"ycbcr"`` or ``"rgb"``; None refuses such a file.
        max_pixels: Largest height x width in pixels, and a fourth of the largest number of pixels
            in all; None for no limit. Headers are checked before anything is decoded.

    Raises:
        BackendUnavailableError: A package that the file needs is not installed.
        ImageError: The source cannot be read, contradicts itself or is too large, or there is no
            such window.
    """
    if channels is not None:
        one_of(channels, get_args(Colours), "channels", ImageError)
    if max_pixels is not None:
        max_pixels = whole_number(max_pixels, "max_pixels", ImageError, least=1)
    image = _read(source, series, channels, max_pixels)
    if spacing is not None:
        image = _spaced(image, spacing)
    return image if window is None else image.with_window(window)


def is_medical(path: Path) -> bool:
    """Tell if a file needs this reader: DICOM, NIfTI, NRRD, a video, or an archive named .zip."""
    try:
        kind = _kind(path) if path.is_file() else ""
    except (OSError, EOFError, zlib.error, ImageError):
        return False
    return bool(kind) and (kind != "zip" or path.suffix.lower() == ".zip")


def _read(
    source: Source, series: str | None, channels: Colours | None, max_pixels: int | None
) -> MedicalImage:
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if not isinstance(source, str | os.PathLike):
        raise ImageError(
            f"the {type(source).__name__} is no path and no NumPy array. Give one of them."
        )
    path = Path(source)
    with reader_faults(str(path)):
        if path.is_dir():
            return _read_folder(path, series, max_pixels)
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is a pipe or a device, which is not opened. Give a file.")
        kind = _kind(path)
    if kind == "dicom":
        return read_dicom_image(path, channels=channels, max_pixels=max_pixels)
    if kind == "nifti":
        return nifti.read_nifti(path, max_pixels=max_pixels)
    if kind == "nrrd":
        return nrrd.read_nrrd(path, max_pixels=max_pixels)
    if kind == "video":
        return read_video(path, max_pixels=max_pixels)
    if kind == "zip":
        members = dicom_members(path, max_pixels)
        return read_series(members, str(path), series=series, max_pixels=max_pixels)
    return read_image_file(path, max_pixels=max_pixels)


def _kind(path: Path) -> str:
    """Name what a file is by its first bytes; empty if it may be an image."""
    with path.open("rb") as file:
        start = file.read(_LONGEST_START)
    if start[PREAMBLE : PREAMBLE + len(MAGIC)] == MAGIC or begins_without_preamble(path):
        return "dicom"
    if start.startswith(nrrd.MAGIC):
        return "nrrd"
    if start.startswith(_ZIP):
        return "zip"
    if start.startswith(GZIP):
        with open_maybe_packed(path) as unpacked:
            start = unpacked.read(_LONGEST_START)
        if not nifti.is_nifti(start):
            raise ImageError(f"{path} is packed by gzip and holds no NIfTI. Unpack it first.")
    if nifti.is_nifti(start):
        return "nifti"
    return "video" if is_video(path) else ""


def _read_folder(path: Path, series: str | None, max_pixels: int | None) -> MedicalImage:
    names = sorted(name for name in path.iterdir() if not name.name.startswith("."))
    files = [name for name in names if name.is_file()]
    slices: list[tuple[str, Opened]] = [
        (str(name), _opener(name)) for name in files if _kind(name) == "dicom"
    ]
    if slices:
        return read_series(slices, str(path), series=series, max_pixels=max_pixels)
    frames = [name for name in files if is_frame(name)]
    if not frames:
        raise ImageError(f"{path} has neither DICOM files nor images in it. Name another folder.")
    return read_frame_folder(frames, str(path), max_pixels=max_pixels)


def _opener(path: Path) -> Opened:
    return lambda: path.open("rb")


def _from_array(array: NDArray[Any], max_pixels: int | None) -> MedicalImage:
    what = f"the array {array.dtype} {array.shape}"
    colour = array.dtype == np.uint8 and array.ndim in (3, 4) and array.shape[-1] == 3
    frames = array[None] if array.ndim == (3 if colour else 2) else array
    if frames.ndim != (4 if colour else 3) or array.dtype.kind not in "iufb" or not array.size:
        raise ImageError(
            f"{what} is no image. Give real numbers (H, W) or (n, H, W), or uint8 colours "
            "(H, W, 3) or (n, H, W, 3)."
        )
    count, height, width = frames.shape[:3]
    check_size(width, height, what, max_pixels)
    check_clip(count, width, height, what, max_pixels)
    return plain_image(frames.astype(frames.dtype.newbyteorder("="), copy=False), what)


def _spaced(image: MedicalImage, spacing: tuple[float, ...]) -> MedicalImage:
    sides = real_array(spacing, "spacing", ImageError)
    if sides.shape not in ((2,), (3,)) or not (np.isfinite(sides).all() and sides.min() > 0):
        raise ImageError(
            "spacing must be height and width of a pixel in mm, or distance of slices, height and "
            f"width, and not {shown(spacing)}."
        )
    *between, height, width = map(float, sides)
    # The affine of the file would contradict the spacing that was given.
    return replace(
        image,
        spacing=(height, width),
        slice_spacing=between[0] if between else image.slice_spacing,
        affine=None,
    )
