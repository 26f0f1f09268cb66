"""Properties of image files that their headers state and Pillow's mode and size do not show."""

from __future__ import annotations

from typing import Any

from PIL import Image

_TIFF_BITS = 258
"""TIFF tag of the bits of each channel."""

_SIZ = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream, up to the marker of the image's size and depth."""

_SIZ_REACH = 65_536
"""Bytes of a JPEG 2000 file in which its codestream begins."""

_GIF_ASPECT = 12
"""Place of the pixel aspect ratio in a GIF."""


def bits_per_channel(image: Image.Image) -> int:
    """Return the bits that an opened file holds in each channel; Pillow cuts RGB down to 8.

    Of an image that is loaded already only Pillow's mode is left.
    """
    if image.mode.startswith(("I", "F")):
        return 16 if image.mode.startswith("I;16") else 32
    tags: Any = getattr(image, "tag_v2", None)
    if tags is not None:
        return max(tags.get(_TIFF_BITS, (1,)), default=8)
    if image.format == "JPEG2000":
        return _jpeg2000_bits(image)
    return max((_tile_bits(tile) for tile in getattr(image, "tile", ())), default=8)


def pixel_aspect(image: Image.Image) -> float:
    """Return the width over the height of a pixel as an opened file states it, else 1."""
    if image.format == "GIF":
        stated = _bytes_at(image, _GIF_ASPECT, 1)
        return (stated[0] + 15) / 64 if stated and stated[0] else 1.0
    for name in ("jfif_density", "aspect", "resolution", "dpi"):
        across, down = (float(density) for density in image.info.get(name) or (0, 0))
        if across > 0 and down > 0:
            return down / across
    return 1.0


def _tile_bits(tile: Any) -> int:
    """Return the bits of a channel from what Pillow's decoder is told."""
    if tile[0] == "SGI16":
        return 16
    told = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    if tile[0].startswith("ppm") and len(told) > 1:
        return int(told[1]).bit_length()
    return 16 if any(";16" in str(one) and "BGR" not in str(one) for one in told) else 8


def _jpeg2000_bits(image: Image.Image) -> int:
    start = _bytes_at(image, 0, _SIZ_REACH)
    place = start.find(_SIZ)
    # Lsiz, Rsiz, eight lengths of 4 bytes, the count of channels, then 3 bytes for each channel.
    counted = place + len(_SIZ) + 36
    if place < 0 or len(start) < counted + 2:
        return 8
    channels = int.from_bytes(start[counted : counted + 2], "big")
    depths = start[counted + 2 : counted + 2 + 3 * channels : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=8)


def _bytes_at(image: Any, start: int, count: int) -> bytes:
    """Read from the file of an opened image, and leave its position as it was."""
    file = getattr(image, "fp", None)
    if file is None:
        return b""
    before = file.tell()
    try:
        file.seek(start)
        read: bytes = file.read(count)
    finally:
        file.seek(before)
    return read
