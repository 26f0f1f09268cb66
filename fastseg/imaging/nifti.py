"""NIfTI-1 and NIfTI-2 files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastseg.environment import needs_extra
from fastseg.errors import ImageError
from fastseg.images.reader_faults import reader_faults
from fastseg.imaging.image import MedicalImage
from fastseg.imaging.stacks import (
    LPS_FROM_RAS,
    as_frames,
    check_volume,
    flipped_affine,
    open_maybe_packed,
    read_exactly,
)

_SIZES = {348: "1", 540: "2"}
"""Bytes of a header, and the version of the format; the number begins the file."""

_KINDS = "iuf"
_APART = b"ni1"
"""Mark of a header whose numbers are in another file."""

_MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def is_nifti(start: bytes) -> bool:
    """Tell if a file, unpacked, begins as NIfTI does; from its first 348 bytes."""
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    return bool(sizes & set(_SIZES)) and (
        start[344:347] in (b"n+1", _APART) or start[4:7] == b"n+2"
    )


def read_nifti(path: Path, *, max_pixels: int | None) -> MedicalImage:
    """Read a NIfTI file, packed or not, with the axes of its numbers as they are.

    The frames are the third axis, rows the second, columns the first; a fourth axis makes several
    volumes.

    Raises:
        BackendUnavailableError: nibabel is not installed.
        ImageError: The file is damaged, too large, or of complex or coloured numbers.
    """
    what = str(path)
    with reader_faults(what), open_maybe_packed(path) as file:
        header, offset = _header(file, what)
        shape = tuple(int(side) for side in header.get_data_shape())
        check_volume(shape, what, max_pixels)
        kind = header.get_data_dtype()
        if kind.kind not in _KINDS:
            raise ImageError(
                f"{what} holds numbers of type {kind}, which are no grey values. Write it with one "
                "real number a voxel."
            )
        read_exactly(file, max(offset - file.tell(), 0), what)
        content = read_exactly(file, math.prod(shape) * kind.itemsize, what)
    frames, volumes = as_frames(np.frombuffer(content, kind), shape)
    slope, intercept = header.get_slope_inter()
    unit = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    zooms = [float(zoom) * unit for zoom in (*header.get_zooms()[:3], 0.0, 0.0)[:3]]
    affine = LPS_FROM_RAS @ header.get_best_affine()
    affine[:3] *= unit
    return MedicalImage(
        stored=frames,
        slope=np.full(len(frames), 1.0 if slope is None else slope),
        intercept=np.full(len(frames), 0.0 if intercept is None else intercept),
        spacing=(zooms[1], zooms[0]) if min(zooms[:2]) > 0 else None,
        slice_spacing=zooms[2] if zooms[2] > 0 and len(shape) > 2 else None,
        affine=flipped_affine(affine),
        volumes=volumes,
        name=what,
    )


def _header(file: BinaryIO, what: str) -> tuple[Any, int]:
    """Read the header, and return it with the place of the numbers."""
    with needs_extra("nifti", f"reading {what}"):
        import nibabel
    start = file.read(4)
    order = "little" if int.from_bytes(start, "little") in _SIZES else "big"
    version = _SIZES.get(int.from_bytes(start, order), "1")  # type: ignore[arg-type]
    kind = nibabel.Nifti1Header if version == "1" else nibabel.Nifti2Header
    size = 348 if version == "1" else 540
    content = start + bytes(read_exactly(file, size - 4, what))
    if content[344:347] == _APART:
        raise ImageError(
            f"{what} keeps its values in another file. Write both into one .nii, for example by "
            "nibabel.save."
        )
    header = kind(content, "<" if order == "little" else ">", check=False)
    return header, int(header.get_data_offset())
