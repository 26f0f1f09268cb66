"""Pixels of DICOM files as they are stored: decoded, with the depth and sign of the header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.imaging.dicom.codecs import codec_of, decode_frames
from fastseg.imaging.dicom.codestream import Coded, check_frames, split_frames
from fastseg.imaging.dicom.colours import apply_palette, ycbcr_to_rgb
from fastseg.imaging.dicom.header import (
    PALETTE,
    PixelFormat,
    is_segmentation,
    no_pixels,
    pixel_format,
)

ColourOrder: TypeAlias = Literal["grey", "rgb", "ycbcr"]
"""Order of the channels as the header states it."""

Colours: TypeAlias = Literal["rgb", "ycbcr"]
"""Order of three channels."""

_SAID = {"rgb": "RGB", "ycbcr": "luma and chroma"}

_YCBCR = ("YBR_FULL", "YBR_FULL_422")


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """The pixels of a file before any window, slope or conversion of colours."""

    frames: NDArray[Any]
    """(n, H, W) integers or floats, or uint8 (n, H, W, 3); palettes are applied."""

    order: ColourOrder
    coded: Coded
    """Colours that JPEG frames state themselves."""

    from_palette: bool = False
    """True if the colours are those of the file's palette."""


def decode(header: Any, what: object) -> StoredPixels:
    """Decode the pixels of a header that was read with them.

    Raises:
        BackendUnavailableError: The decoder is not installed.
        ImageError: They are missing, not as many as stated, or compressed in an unknown way.
    """
    form = pixel_format(header, what)
    if form.floating:
        return StoredPixels(_floating(header, form, what), "grey", "")
    if "PixelData" not in header or header.PixelData is None:
        raise no_pixels(what)
    syntax = str(header.file_meta.TransferSyntaxUID)
    codec = codec_of(syntax, form, what)
    if codec.way == "native":
        frames, coded = _native(header, form, what), ""
    else:
        parts = split_frames(header, form, what)
        coded = "" if codec.way == "rle" else check_frames(parts, syntax, form, what)
        frames = _collected(decode_frames(header, parts, codec, form), form, what)
    if form.is_colour:
        order = "ycbcr" if form.photometric in _YCBCR else "rgb"
        return StoredPixels(frames, order, coded)  # type: ignore[arg-type]
    # Compressed values have no bits below them that are not theirs.
    grey = _with_sign(frames, form, form.high if codec.way == "native" else form.stored - 1)
    if form.photometric == PALETTE and not is_segmentation(header):
        return StoredPixels(apply_palette(grey, header, form, what), "rgb", "", True)
    return StoredPixels(grey, "grey", coded)  # type: ignore[arg-type]


def as_rgb(
    pixels: StoredPixels, what: object, *, given: Colours | None = None
) -> NDArray[np.uint8]:
    """Convert pixels of three channels to RGB.

    Args:
        pixels: Decoded pixels.
        what: The file, for errors.
        given: Order of the channels where header and JPEG frames contradict each other.

    Raises:
        ImageError: They do, and ``given`` is None.
    """
    order: ColourOrder = pixels.order
    if pixels.coded == "adobe":
        order = "rgb"
    elif {pixels.coded, order} == {"rgb", "ycbcr"}:
        if given is None:
            raise ImageError(
                f"{what} says {_SAID[order]} in its header, and its JPEG frames say "
                f"{_SAID[pixels.coded]}: one of them is wrong. Say which channels are right, "
                'channels="ycbcr" or "rgb" (--channels).'
            )
        order = given
    return ycbcr_to_rgb(pixels.frames) if order == "ycbcr" else pixels.frames


def _native(header: Any, form: PixelFormat, what: object) -> NDArray[Any]:
    from pydicom.pixels import get_decoder

    held, needed = len(header.PixelData), form.native_bytes
    if held < needed:
        raise ImageError(
            f"{what} holds {held:,} of the {needed:,} bytes of its pixels: it was cut off. Copy it "
            "again."
        )
    if form.photometric == "YBR_FULL_422" and held >= needed // 2 * 3:
        raise ImageError(
            f"{what} states halved chroma (YBR_FULL_422) and holds all of it: its header is wrong. "
            "Export it again as YBR_FULL."
        )
    if held > needed + needed % 2:
        header.PixelData = header.PixelData[: needed + needed % 2]
    decoder = get_decoder(header.file_meta.TransferSyntaxUID)
    frames, _ = decoder.as_array(header, raw=True, validate=False, correct_unused_bits=False)
    shape = (form.frames, form.rows, form.columns)
    found: NDArray[Any] = frames.reshape((*shape, 3) if form.is_colour else shape)
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _collected(frames: Any, form: PixelFormat, what: object) -> NDArray[Any]:
    """Put decoded frames into one array, as many and as large as the header states."""
    shape = (form.rows, form.columns, 3) if form.is_colour else (form.rows, form.columns)
    kept: NDArray[Any] | None = None
    for index, frame in enumerate(frames):
        if frame.shape != shape or index >= form.frames:
            raise ImageError(
                f"{what} states {form.frames} frames {shape}, and frame {index} decodes to "
                f"{frame.shape}. Export it again."
            )
        if kept is None:
            kept = np.empty((form.frames, *shape), frame.dtype)
        kept[index] = frame
    if kept is None or index + 1 != form.frames:
        raise ImageError(f"{what} ends before its last frame. Copy it again.")
    return kept


def _floating(header: Any, form: PixelFormat, what: object) -> NDArray[Any]:
    content = header[form.floating].value
    needed = form.frames * form.rows * form.columns
    kind = "f4" if form.floating == "FloatPixelData" else "f8"
    order = "<" if header.original_encoding[1] else ">"
    values = np.frombuffer(content, order + kind)
    if values.size < needed:
        raise ImageError(f"{what} holds {values.size:,} of {needed:,} pixels. Copy it again.")
    whole = values[:needed].reshape(form.frames, form.rows, form.columns)
    floating: NDArray[Any] = whole.astype(kind, copy=False)
    return floating


def _with_sign(frames: NDArray[Any], form: PixelFormat, high: int) -> NDArray[Any]:
    """Take the bits that are stored, up to bit ``high``, with the sign of the header."""
    width = 8 * frames.dtype.itemsize
    if form.allocated == 1:
        return frames
    kind = np.dtype(f"{'i' if form.signed else 'u'}{frames.dtype.itemsize}")
    if form.stored >= width:
        return frames.view(kind)
    # Moved to the upper end and back, so that the upper bit is the sign.
    raised = np.left_shift(frames.view(f"u{frames.dtype.itemsize}"), width - 1 - high)
    moved: NDArray[Any] = np.right_shift(raised.view(kind), width - form.stored)
    return moved
