"""Palettes of DICOM files: indices to RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.errors import ImageError
from fastseg.imaging.dicom.header import PixelFormat

_NAMES = ("Red", "Green", "Blue")
_LARGEST_TABLE = 65_536


def apply_palette(
    stored: NDArray[Any], header: Any, form: PixelFormat, what: object
) -> NDArray[np.uint8]:
    """Give indices (n, H, W) the colours of the file's palette: uint8 (n, H, W, 3).

    Of 16-bit entries the upper byte counts. Indices beyond the table take its first or last entry.

    Raises:
        ImageError: The palette is missing or damaged.
    """
    tables = [_table(header, name, form, what) for name in _NAMES]
    # Some writers put entries of 8 bits into a table that they call one of 16.
    deep = any(table.dtype.itemsize == 2 and bool((table > 255).any()) for _, table in tables)
    entries = [(first, (table >> 8 if deep else table).astype(np.uint8)) for first, table in tables]
    width = stored.dtype.itemsize
    if width == 1:
        numbers = np.arange(256, dtype=np.uint8).view(stored.dtype)
        return ops.palette_to_rgb(stored.view(np.uint8), _colours_of(numbers, entries))
    rgb = np.empty((*stored.shape, 3), np.uint8)
    for frame, out in zip(stored, rgb, strict=True):
        out[...] = _colours_of(frame, entries)
    return rgb


def _colours_of(
    numbers: NDArray[Any], entries: list[tuple[int, NDArray[np.uint8]]]
) -> NDArray[np.uint8]:
    """Look numbers up in the tables of the three colours."""
    rgb = np.empty((*numbers.shape, 3), np.uint8)
    for channel, (first, table) in enumerate(entries):
        rgb[..., channel] = table[np.clip(numbers.astype(np.int64) - first, 0, len(table) - 1)]
    return rgb


def _table(header: Any, name: str, form: PixelFormat, what: object) -> tuple[int, NDArray[Any]]:
    """Return the first index of a colour's table, and the table."""
    descriptor = header.get(f"{name}PaletteColorLookupTableDescriptor")
    plain = header.get(f"{name}PaletteColorLookupTableData")
    segmented = header.get(f"Segmented{name}PaletteColorLookupTableData")
    data = plain if plain is not None else segmented
    try:
        count, first, bits = (int(value) for value in descriptor)
        content = bytes(data)
    except (TypeError, ValueError) as error:
        raise _no_palette(what) from error
    count = (count & 0xFFFF) or _LARGEST_TABLE
    if form.signed and first > 32_767:
        first -= 65_536
    big = not header.original_encoding[1]
    if bits == 8 and len(content) < 2 * count:
        entries = np.frombuffer(content, np.uint8)
        if big and len(content) % 2 == 0:
            entries = entries.view(">u2").astype("<u2").view(np.uint8)
    else:
        even = content[: len(content) // 2 * 2]
        entries = np.frombuffer(even, ">u2" if big else "<u2").astype(np.uint16)
    if plain is None:
        entries = _expanded(entries, count, what)
    if len(entries) < count:
        raise _no_palette(what)
    return first, entries[:count]


def _expanded(segments: NDArray[Any], count: int, what: object) -> NDArray[Any]:
    """Expand a segmented palette (DICOM PS3.3, C.7.9.2) to at most ``count`` entries."""
    values = segments.tolist()
    entries: list[int] = []
    _expand(values, 0, len(values), None, entries, count, what)
    return np.array(entries[:count], segments.dtype)


def _expand(
    values: list[int],
    place: int,
    end: int,
    segments_left: int | None,
    entries: list[int],
    count: int,
    what: object,
) -> None:
    """Append the entries of some segments; one that points to others is expanded in place."""
    while place + 1 < end and len(entries) < count and segments_left != 0:
        kind, length = values[place : place + 2]
        if kind == 0:
            entries += values[place + 2 : min(place + 2 + length, end)]
            place += 2 + length
        elif kind == 1 and entries and place + 2 < end:
            steps = np.linspace(entries[-1], values[place + 2], length + 1)[1:]
            entries += np.floor(steps + 0.5).astype(np.int64).tolist()
            place += 3
        elif kind == 2 and segments_left is None and place + 3 < end:
            target = values[place + 2] | values[place + 3] << 16
            _expand(values, target, end, length, entries, count, what)
            place += 4
        else:
            raise _no_palette(what)
        segments_left = None if segments_left is None else segments_left - 1


def _no_palette(what: object) -> ImageError:
    return ImageError(
        f"{what} stores PALETTE COLOR, and its palette is missing or damaged. Export it again, or "
        "give its frames as an array."
    )
