"""Properties of image files that their headers state and Pillow's mode and size do not show."""

from __future__ import annotations

from typing import Any

from PIL import Image

_TIFF_BITS = 258
"""TIFF tag of the bits of each channel."""

_TIFF_SUBFILE, _TIFF_FORMER_SUBFILE = 254, 255
_REDUCED, _MASK, _FORMER_REDUCED = 1, 4, 2
"""Pages of a TIFF that are no scene of their own: bits of one tag, and a value of the other."""

_VIDEO = (
    "Videos are not read: write their frames as images, for example with ffmpeg, or as .npy "
    "(n, H, W) by numpy.save, or give DICOM."
)
_CLIP = "Read its frames by fastseg.imaging.read, and give one of them."
_VOLUME = "Read it by fastseg.imaging.read, with the window that matters, and give a slice of it."
_CONVERT = "Give a PNG, or read it yourself and give the array."

_CONTENTS: tuple[tuple[int, tuple[bytes, ...], str, str], ...] = (
    (
        128,
        (b"DICM",),
        "DICOM",
        "Read it by fastseg.imaging.read, with the window that matters, and give what comes; "
        "ultrasound of the heart by fastseg.echo.dicom.read_dicom, or measure it with fastseg "
        "echo.",
    ),
    (0, (b"NRRD000",), "an NRRD volume", _VOLUME),
    (0, (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0"), "a NIfTI volume", _VOLUME),
    (0, (b"\x1f\x8b",), "packed by gzip", "If it is NIfTI, read it by fastseg.imaging.read."),
    (8, (b"AVI ",), "a video (AVI)", _CLIP),
    (4, (b"ftypavif", b"ftypavis"), "an AVIF image", f"This Pillow reads none. {_CONVERT}"),
    (4, (b"ftyphei", b"ftypmif1", b"ftyphev"), "a HEIF image", _CONVERT),
    (4, (b"ftyp", b"moov", b"mdat"), "a video (MP4 or QuickTime)", _CLIP),
    (0, (b"\x1a\x45\xdf\xa3",), "a video (Matroska or WebM)", _CLIP),
    (0, (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",), "a video (WMV)", _VIDEO),
    (0, (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"), "a video (MPEG)", _VIDEO),
    (0, (b"\x93NUMPY", b"PK\x03\x04"), "an array or an archive", "Load it and give the array."),
    (0, (b"%PDF", b"%!PS"), "a document (PDF or PostScript)", _CONVERT),
    (0, (b"<svg", b"<?xml", b"<!DOCTYPE", b"<html"), "a text (SVG, XML or a web page)", _CONVERT),
    (0, (b"\xff\x4f\xff\x51",), "a JPEG 2000 codestream that is damaged", _CONVERT),
)
"""Place and beginnings of files, what they are, and the remedy; the first that fits counts."""

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


def scene_pages(image: Image.Image) -> list[int]:
    """Return the pages of an opened file that show a scene, and leave the first one open.

    Copies of reduced size and transparency masks in a TIFF are left out, and so are the further
    frames of an MPO: a camera's previews, or its second eye.
    """
    film: Any = image
    # A property that fails with AttributeError would look like a file of one frame to getattr.
    counted = hasattr(type(film), "n_frames") or "n_frames" in vars(film)
    count = film.n_frames if counted and image.format != "MPO" else 1
    if image.format != "TIFF" or count == 1:
        return list(range(count))
    pages = [index for index in range(count) if _is_scene(image, index)] or [0]
    image.seek(pages[0])
    return pages


def _is_scene(image: Image.Image, index: int) -> bool:
    image.seek(index)
    tags: Any = getattr(image, "tag_v2", {})
    kind, former = tags.get(_TIFF_SUBFILE, 0), tags.get(_TIFF_FORMER_SUBFILE, 0)
    return not (kind & (_REDUCED | _MASK)) and former != _FORMER_REDUCED


def name_content(start: bytes) -> tuple[str, str] | None:
    """Name a file that is no image that can be read, from its first 132 bytes.

    Returns:
        What the file is, and what to do with it; None if it is not known.
    """
    for place, magics, what, remedy in _CONTENTS:
        if start[place:].startswith(magics):
            return what, remedy
    return None
