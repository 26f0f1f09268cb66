"""Sound image files that Pillow refuses: oversized texts in PNG, and JPEG without an end marker."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")

_LARGEST_TEXT = 1 << 20
"""Bytes of a text that Pillow reads; it refuses the whole file for a larger one."""

_LARGEST_SUM = 32 << 20
"""Bytes of all texts that are kept; Pillow refuses a file at twice as many."""

_END = b"\xff\xd9"
_FILLS = (b"", b"\x00" * 4096, b"\x55" * 4096, b"\xaa" * 4096)
"""Bytes before the end marker that is added; a complete image does not depend on them."""


def without_large_texts(file: BinaryIO) -> BinaryIO:
    """Return a PNG without the texts and colour profiles that Pillow refuses, else the file."""
    large = _large_texts(file) if file.read(len(_PNG)) == _PNG else []
    file.seek(0)
    if not large:
        return file
    kept = BytesIO()
    for start, end in large:
        kept.write(file.read(start - file.tell()))
        file.seek(end)
    kept.write(file.read())
    kept.seek(0)
    return kept


def complete_jpeg(
    file: BinaryIO, decode: Callable[[BinaryIO], NDArray[np.uint8]]
) -> NDArray[np.uint8] | None:
    """Decode a JPEG that lacks its end marker alone; None if pixels are missing, or it has one.

    Args:
        file: The file; progressive ones must not be given, since a scan may be missing in them.
        decode: Decodes a file with an end marker.
    """
    file.seek(0)
    content = file.read().removesuffix(b"\xff")
    if _END in content[-65_536:]:
        return None
    first, *others = (decode(BytesIO(content + fill + _END)) for fill in _FILLS)
    return first if all(np.array_equal(first, other) for other in others) else None


def _large_texts(file: BinaryIO) -> list[tuple[int, int]]:
    """Return where the texts that Pillow refuses begin and end."""
    found, total = [], 0
    for name, start, size in _chunks(file):
        if name not in _TEXTS:
            continue
        file.seek(start + 8)
        length = _text_length(name, file.read(size))
        total += length
        if length >= _LARGEST_TEXT or total > _LARGEST_SUM:
            found.append((start, start + size + 12))
    return found


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and length of each chunk of a PNG."""
    start = len(_PNG)
    while len(header := file.read(8)) == 8:
        size = int.from_bytes(header[:4], "big")
        yield header[4:], start, size
        start += size + 12
        file.seek(start)


def _text_length(name: bytes, content: bytes) -> int:
    """Return the bytes of a text as Pillow would hold it, at most its limit."""
    _, _, value = content.partition(b"\0")
    if name == b"iTXt":
        packed, value = value[:1] == b"\1", value[2:].split(b"\0", 2)[-1]
    else:
        packed, value = name != b"tEXt", value[1:]
    if not packed:
        return len(value)
    try:
        return len(zlib.decompressobj().decompress(value, _LARGEST_TEXT))
    except zlib.error:
        return _LARGEST_TEXT  # damaged, and no pixel depends on it
