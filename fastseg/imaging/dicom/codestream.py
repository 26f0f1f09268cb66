"""Headers of compressed frames, which are compared with that of the file before decoding."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, TypeAlias

from PIL import Image

from fastseg.errors import ImageError
from fastseg.imaging.dicom.codecs import JPEG_BASELINE, JPEG_EXTENDED
from fastseg.imaging.dicom.header import PixelFormat

Coded: TypeAlias = Literal["", "unknown", "rgb", "ycbcr", "adobe"]
"""Colours of JPEG frames: none of JPEG, not stated, as stated by their own headers, or YCbCr that
Pillow turns into RGB because an Adobe marker says so."""

_SIZ = b"\xff\x4f\xff\x51"
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG and JPEG-LS that hold the size of the frame."""

_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Size and depth that a compressed frame states of itself."""

    width: int
    height: int
    channels: int
    bits: int


def frame_header(content: bytes) -> FrameHeader | None:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 frame; None if there is none."""
    start = content.find(_SIZ, 0, 4096)
    return _jpeg2000(content, start) if start >= 0 else _jpeg(content)


def _jpeg2000(content: bytes, start: int) -> FrameHeader | None:
    field = content[start + 4 : start + 4 + 39]
    if len(field) < 39:
        return None
    right, bottom, left, top = (int.from_bytes(field[at : at + 4], "big") for at in (4, 8, 12, 16))
    channels, depth = int.from_bytes(field[36:38], "big"), (field[38] & 0x7F) + 1
    return FrameHeader(right - left, bottom - top, channels, depth)


def _jpeg(content: bytes) -> FrameHeader | None:
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            bits, height, width, channels = (
                int.from_bytes(content[place + a : place + b], "big")
                for a, b in ((4, 5), (5, 7), (7, 9), (9, 10))
            )
            return FrameHeader(width, height, channels, bits)
        place += 2 + max(int.from_bytes(content[place + 2 : place + 4], "big"), 2)
    return None


def split_frames(header: Any, form: PixelFormat, what: object) -> list[bytes]:
    """Split the encapsulated pixels into frames, with or without tables of their offsets.

    Raises:
        ImageError: They are not as many as the header states.
    """
    from pydicom.encaps import generate_frames

    table = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    extended = table if all(isinstance(one, bytes) for one in table) else None
    frames: list[bytes] = []
    try:
        found = generate_frames(
            header.PixelData, number_of_frames=form.frames, extended_offsets=extended
        )
        # One more than stated is enough to tell that there are too many.
        for frame in found:
            frames.append(frame)
            if len(frames) > form.frames:
                break
    except ValueError:
        frames.clear()
    if len(frames) != form.frames:
        held = f"holds {len(frames)}" if frames else "does not say where each begins"
        if len(frames) > form.frames:
            held = "holds more"
        raise ImageError(
            f"{what} announces {form.frames} frames and {held}: it was cut off, or its header is "
            "wrong. Copy it again, or save its frames by numpy.save."
        )
    return frames


def check_frames(frames: list[bytes], syntax: str, form: PixelFormat, what: object) -> Coded:
    """Compare the headers of compressed frames with that of the file, and return their colours.

    Raises:
        ImageError: A frame has another size than the file states, or frames differ in colours.
    """
    coded: set[Coded] = set()
    for index, content in enumerate(frames):
        own = frame_header(content)
        if own is None:
            raise ImageError(
                f"{what} has no image in its frame {index}: it is damaged, or is compressed in "
                "another way than its header states. Copy it again, or save it uncompressed."
            )
        if (own.width, own.height) != (form.columns, form.rows):
            raise ImageError(
                f"{what} states frames of {form.columns} x {form.rows} pixels, and frame {index} "
                f"is {own.width} x {own.height}. Export it again."
            )
        if own.channels != form.samples or own.bits > form.allocated:
            raise ImageError(
                f"{what} states {form.samples} channels of {form.allocated} bits, and frame "
                f"{index} has {own.channels} of {own.bits}. Export it again."
            )
        if syntax in (JPEG_BASELINE, JPEG_EXTENDED) and own.bits == 8:
            coded.add(_jpeg_colours(content))
    if len(coded) > 1:
        raise ImageError(
            f"{what} has JPEG frames of several colour spaces. Export it again, or save its frames "
            "by numpy.save."
        )
    return coded.pop() if coded else ""


def _jpeg_colours(content: bytes) -> Coded:
    with Image.open(BytesIO(content), formats=["JPEG"]) as image:
        if image.mode != "RGB":
            return "unknown"
        transform = image.info.get("adobe_transform")
        if transform is not None:
            return "adobe" if transform == 1 else "rgb"
        return "ycbcr" if "jfif" in image.info else "unknown"
