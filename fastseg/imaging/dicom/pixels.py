"""Pixels of DICOM files as they are stored: decoded, with the depth and sign of the header."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.environment import usable_cores
from fastseg.environment.threads import Team
from fastseg.errors import FastsegError, ImageError
from fastseg.imaging.dicom.codecs import Codec, codec_of, decode_file, decoder_of
from fastseg.imaging.dicom.codestream import Coded, check_frames, split_frames
from fastseg.imaging.dicom.colours import apply_palette
from fastseg.imaging.dicom.content import damaged
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


def decode(header: Any, what: object, form: PixelFormat | None = None) -> StoredPixels:
    """Decode the pixels of a header that was read with them.

    Args:
        header: The header.
        what: The file, for errors.
        form: Shape and encoding of the pixels, if they were read from the header before.

    Raises:
        BackendUnavailableError: The decoder is not installed.
        ImageError: They are missing, not as many as stated, or compressed in an unknown way.
    """
    form = form or pixel_format(header, what)
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
        frames = _decoded(header, parts, codec, form, what)
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
    """Convert pixels of three channels to RGB, in their own array where it may be written.

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
    frames = pixels.frames
    if order != "ycbcr":
        return frames
    is_free = frames.flags.writeable and frames.flags.c_contiguous
    return ops.ycbcr_to_rgb(frames, out=frames if is_free else None)


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


def _decoded(
    header: Any, parts: list[bytes], codec: Codec, form: PixelFormat, what: object
) -> NDArray[Any]:
    """Decode compressed frames into one array, as many and as large as the header states."""
    decode_one = decoder_of(codec, str(header.file_meta.TransferSyntaxUID), form)
    if decode_one is None:
        found = decode_file(header, codec)
        return _collected(lambda _: next(found), form, what)
    workers = usable_cores() if codec.is_concurrent else 1
    return _collected(lambda index: decode_one(parts[index]), form, what, workers=workers)


def _collected(
    decode_at: Callable[[int], NDArray[Any]], form: PixelFormat, what: object, *, workers: int = 1
) -> NDArray[Any]:
    """Put frames into one array, each decoded where it belongs, in a few threads.

    Raises:
        ImageError: A frame cannot be decoded, or has another size; the first one is named.
    """
    shape = (form.rows, form.columns, 3) if form.is_colour else (form.rows, form.columns)

    def checked(index: int) -> NDArray[Any]:
        try:
            frame = decode_at(index)
        except FastsegError:
            raise
        except Exception as error:
            raise damaged(what, f" in its frame {index}") from error
        if frame.shape != shape:
            raise ImageError(
                f"{what} states {form.frames} frames {shape}, and frame {index} decodes to "
                f"{frame.shape}. Export it again."
            )
        return frame

    first = checked(0)
    if form.frames == 1 and first.flags.writeable and first.flags.c_contiguous:
        return first[None]
    kept = np.empty((form.frames, *shape), first.dtype)
    kept[0] = first

    def place(index: int) -> None:
        kept[index] = checked(index)

    # The caller is one of the workers, so no more frames are held than there are workers.
    helpers = min(workers, form.frames - 1) - 1
    if helpers < 1:
        for index in range(1, form.frames):
            place(index)
        return kept
    with Team(helpers) as team:
        for _ in team.map(place, range(1, form.frames)):
            pass
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
    moved: NDArray[Any] = raised.view(kind)
    np.right_shift(moved, width - form.stored, out=moved)
    return moved
