"""NRRD files with their values inside."""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastseg.environment import needs_extra
from fastseg.errors import ImageError
from fastseg.images.reader_faults import reader_faults
from fastseg.imaging.image import MedicalImage
from fastseg.imaging.stacks import as_frames, check_volume, flipped_affine, read_exactly

MAGIC = b"NRRD000"

_TYPES = {
    "int8": "i1", "signed char": "i1", "int8_t": "i1", "uint8": "u1", "uchar": "u1",
    "unsigned char": "u1", "uint8_t": "u1", "short": "i2", "short int": "i2",
    "signed short": "i2", "signed short int": "i2", "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "unsigned short int": "u2", "uint16": "u2",
    "uint16_t": "u2", "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4",
    "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4", "float": "f4",
    "double": "f8",
}  # fmt: skip

_TO_LPS = {
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
}  # fmt: skip
"""Signs that turn each space of a patient into left, back and head."""


def read_nrrd(path: Path, *, max_pixels: int | None) -> MedicalImage:
    """Read an NRRD file, with the axes of its numbers as they are.

    The frames are the third axis, rows the second, columns the first; a fourth axis makes several
    volumes.

    Raises:
        BackendUnavailableError: pynrrd is not installed.
        ImageError: The file is damaged, too large, or keeps its values in another file.
    """
    what = str(path)
    with reader_faults(what), path.open("rb") as file:
        header = _header(file, what)
        shape = tuple(int(side) for side in header["sizes"])
        check_volume(shape, what, max_pixels)
        kind = _kind(header, what)
        content = _values(file, header, math.prod(shape) * kind.itemsize, what)
    frames, volumes = as_frames(np.frombuffer(content, kind), shape)
    affine, sides = _geometry(header)
    return MedicalImage(
        stored=frames,
        slope=np.ones(len(frames)),
        intercept=np.zeros(len(frames)),
        spacing=None if sides is None else (sides[1], sides[0]),
        slice_spacing=sides[2] if sides is not None and len(sides) > 2 else None,
        affine=affine,
        volumes=volumes,
        name=what,
    )


def _header(file: BinaryIO, what: str) -> Mapping[str, Any]:
    with needs_extra("nifti", f"reading {what}"):
        import nrrd
    header: Mapping[str, Any] = nrrd.read_header(file)
    if "data file" in header or "datafile" in header:
        raise ImageError(
            f"{what} keeps its values in another file. Write both into one .nrrd, for example by "
            "unu save -f nrrd."
        )
    return header


def _kind(header: Mapping[str, Any], what: str) -> np.dtype[Any]:
    name = _TYPES.get(str(header.get("type", "")).lower())
    if name is None:
        raise ImageError(
            f"{what} holds values of type {header.get('type')}, which is not read. Write it with "
            "one real number a voxel."
        )
    order = ">" if str(header.get("endian", "little")).lower() == "big" else "<"
    return np.dtype(order + name)


def _values(file: BinaryIO, header: Mapping[str, Any], count: int, what: str) -> bytearray:
    """Read the values, unpacked no further than to their number."""
    encoding = str(header.get("encoding", "")).lower()
    if header.get("line skip") or header.get("lineskip"):
        raise ImageError(f"{what} skips lines before its values, which is not read. Write it anew.")
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    if encoding == "raw":
        if skip == -1:
            file.seek(-count, 2)
        else:
            file.seek(skip, 1)
        return read_exactly(file, count, what)
    if encoding in ("gzip", "gz"):
        return read_exactly(_Unpacked(file, zlib.decompressobj(zlib.MAX_WBITS | 32)), count, what)
    if encoding in ("bzip2", "bz2"):
        return read_exactly(_Unpacked(file, bz2.BZ2Decompressor()), count, what)
    if encoding in ("ascii", "text", "txt"):
        numbers = np.array(file.read(40 * count).split(), np.float64)
        stored = numbers.astype(_kind(header, what)).tobytes()
        return read_exactly(BytesIO(stored), count, what)
    raise ImageError(f"{what} is encoded as {encoding or 'nothing'}, which is not read.")


class _Unpacked(BytesIO):
    """A packed file that unpacks only as many bytes as are read."""

    def __init__(self, file: BinaryIO, unpack: Any) -> None:
        super().__init__()
        self._file, self._unpack = file, unpack

    def read(self, count: int | None = -1) -> bytes:
        """Unpack up to ``count`` bytes; none at the end."""
        found = b""
        while not found and not self._unpack.eof:
            rest = getattr(self._unpack, "unconsumed_tail", b"")
            needs = getattr(self._unpack, "needs_input", True)
            packed = rest or (self._file.read(1 << 20) if needs else b"")
            if not packed and needs:
                break
            found = self._unpack.decompress(packed, count or -1)
        return found


def _geometry(
    header: Mapping[str, Any],
) -> tuple[NDArray[np.float64] | None, list[float] | None]:
    """Return the affine in LPS and the sides of a voxel in mm, as far as the header states them."""
    directions = header.get("space directions")
    signs = _TO_LPS.get(str(header.get("space", "")).lower())
    if directions is None:
        spacings = [abs(float(side)) for side in header.get("spacings", ())]
        known = len(spacings) >= 2 and all(math.isfinite(side) and side > 0 for side in spacings)
        return None, spacings if known else None
    axes = np.array([row for row in np.atleast_2d(directions) if np.isfinite(row).all()])
    sides = [float(side) for side in np.linalg.norm(axes, axis=1)]
    if len(sides) < 2 or min(sides) <= 0:
        return None, None
    origin = header.get("space origin")
    if signs is None or origin is None or axes.shape != (3, 3) or not np.isfinite(origin).all():
        return None, sides
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes.T, origin
    return flipped_affine(np.diag((*signs, 1.0)) @ affine), sides
