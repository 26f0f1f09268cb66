"""Content of DICOM files within limits: only what is needed is read, and no claim is believed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from fastseg.environment import needs_extra
from fastseg.errors import FastsegError, ImageError
from fastseg.images import MAX_PIXELS
from fastseg.imaging.dicom.header import check_limits, pixel_format
from fastseg.imaging.dicom.tags import TAGS

MAGIC, PREAMBLE = b"DICM", 128

DEFLATED = "1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1\0"

_FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018)
"""Elements that a file without a preamble begins with, of the group 2 or 8."""

_LONGEST_FIRST = 64
"""Longest value of such an element in bytes."""

_LONG_LENGTHS = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"OD", b"OL", b"OV", b"UC", b"UR")
"""Value representations whose length takes 4 bytes after 2 that are reserved."""

_FIRST_TAG, _PIXELS = 0x0008_0000, 0x7FE0_0010

_BESIDE_PIXELS = 64 << 20
"""Bytes that a packed file may hold beside its pixels."""

_HIGHEST_RATIO = 500
"""Bytes of an image that a byte of a packed file may stand for."""

_AT_ONCE = 1 << 20

_IN_MEMORY = 8 << 20
"""Largest file in bytes that is read at once when its pixels are wanted."""


class BoundedFile:
    """A file that gives no more bytes than it has, whatever length a header claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, count: int = -1) -> bytes:
        """Read up to ``count`` bytes."""
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if count < 0 else min(count, left))

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, as files do."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Tell if a file begins as DICOM files do; False if it cannot be read."""
    return _start(path)[PREAMBLE:] == MAGIC


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
            return file.read(PREAMBLE + len(MAGIC))
    except (OSError, ValueError):
        return b""


@contextmanager
def faults(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what pydicom raises about a damaged file into an ``ImageError``."""
    try:
        yield
    except FastsegError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def read_header(
    file: BinaryIO, what: str, *, max_pixels: int | None = MAX_PIXELS, pixels: bool = True
) -> Any:
    """Read the header of an open DICOM file as a pydicom dataset of ``TAGS`` alone."""
    start = file.read(1 << 16)
    file.seek(0)
    place = _dataset_place(start)
    if place is not None and place[1] == DEFLATED:
        file = _inflated(file, place[0], what, max_pixels)
    header = _parse(file, pixels=pixels)
    if header.file_meta.get("TransferSyntaxUID") is None:
        raise ValueError("the transfer syntax is not stated")
    return header


def read_elements(file: BinaryIO, names: Iterable[str]) -> Any:
    """Read some elements of an open DICOM file as a pydicom dataset; pixels are not read."""
    start = file.read(1 << 16)
    file.seek(0)
    place = _dataset_place(start)
    if place is not None and place[1] == DEFLATED:
        file = _inflated(file, place[0], "the file", MAX_PIXELS)
    return _parse(file, names, pixels=False)


def _parse(file: BinaryIO, names: Iterable[str] = TAGS, *, pixels: bool = True) -> Any:
    """Read elements by their names, up to the pixels or past them."""
    with needs_extra("dicom", "reading DICOM"):
        from pydicom.filereader import read_partial

    last = _PIXELS if pixels else _PIXELS - 1

    def is_past(tag: int, *_: object) -> bool:
        # Zeros that fill a file up would be read as elements of group 0, one by one. As int: the
        # comparisons of pydicom's tags are a part of the time of small files.
        return not _FIRST_TAG <= int(tag) <= last

    source = _bounded(file) if pixels else BoundedFile(file)
    return read_partial(source, stop_when=is_past, specific_tags=_tags(tuple(names)))


@cache
def _tags(names: tuple[str, ...]) -> list[Any]:
    """Look up the numbers of elements once."""
    from pydicom.tag import Tag

    return [Tag(name) for name in names]


def _bounded(file: BinaryIO) -> BinaryIO | BoundedFile:
    """Return a file that gives no more bytes than it has: one in memory if it is small."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    # pydicom reads a header in hundreds of small pieces. A device such as /dev/zero has a size of 0
    # and content without end.
    return BytesIO(file.read(size)) if size <= _IN_MEMORY else BoundedFile(file)


def _dataset_place(start: bytes) -> tuple[int, str] | None:
    """Find where the data set begins after the file header, and the transfer syntax."""
    if start[PREAMBLE : PREAMBLE + len(MAGIC)] != MAGIC:
        return None
    place, syntax = PREAMBLE + len(MAGIC), ""
    while start[place : place + 2] == b"\x02\0":
        tag, kind = start[place : place + 4], start[place + 4 : place + 6]
        long = kind in _LONG_LENGTHS
        value = place + (12 if long else 8)
        length = int.from_bytes(start[value - (4 if long else 2) : value], "little")
        if tag == b"\x02\0\x10\0":
            syntax = start[value : value + length].rstrip(b"\0 ").decode("ascii", "replace")
        place = value + length
    return place, syntax


def _inflated(file: BinaryIO, place: int, what: str, max_pixels: int | None) -> BinaryIO:
    """Return a deflated file as an uncompressed one, no larger than its header accounts for."""
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    element = b"\x02\0\x10\0UI" + len(_EXPLICIT).to_bytes(2, "little") + _EXPLICIT

    def chunks() -> Iterator[bytes]:
        yield bytes(PREAMBLE) + MAGIC + element
        while not unpack.eof:
            packed = unpack.unconsumed_tail or file.read(_AT_ONCE)
            if not packed:
                raise EOFError("the deflated data set ends too early")
            yield unpack.decompress(packed, _AT_ONCE)

    packed_size = file.seek(0, os.SEEK_END)
    file.seek(place)
    return unpacked(chunks(), packed_size, what, max_pixels)


def unpacked(chunks: Iterable[bytes], packed: int, what: str, max_pixels: int | None) -> BinaryIO:
    """Join the chunks of an unpacked DICOM file, up to the size that its own header explains.

    Args:
        chunks: Parts of the file in their order.
        packed: Bytes of the packed file.
        what: Name of the file in errors.
        max_pixels: Largest height x width in pixels; None for any.

    Raises:
        ImageError: The file is larger than its header explains, or than ``max_pixels`` allows.
    """
    kept, bound, explained = BytesIO(), _BESIDE_PIXELS, False
    for chunk in chunks:
        kept.write(chunk)
        if kept.tell() <= bound:
            continue
        if explained:
            raise ImageError(
                f"{what} unpacks to {bound:,} bytes and more, which its header does not explain. "
                "It is damaged, or made to exhaust memory."
            )
        stated = _stated_bytes(kept, what, max_pixels)
        bound, explained = _BESIDE_PIXELS + min(stated, _HIGHEST_RATIO * packed), True
    kept.seek(0)
    return kept


def _stated_bytes(part: BinaryIO, what: str, max_pixels: int | None) -> int:
    """Return the bytes of the pixels that the header at the start of a file states."""
    part.seek(0)
    header = _parse(part, pixels=False)
    part.seek(0, os.SEEK_END)
    form = pixel_format(header, what)
    check_limits(form, what, max_pixels)
    return form.native_bytes


def unreadable(path: str | os.PathLike[str], error: Exception) -> ImageError:
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
    return damaged(path)


def damaged(what: object, where: str = "") -> ImageError:
    """Return the error about a DICOM file that cannot be decoded."""
    return ImageError(
        f"{what} is a DICOM file that is damaged{where}, or is compressed in another way than it "
        "states. Copy it again, or save it uncompressed, for example by dcmdjpeg of DCMTK."
    )
