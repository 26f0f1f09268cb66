"""From whatever a user calls an ultrasound frame to luma and chroma, and the part that is seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.contract import Array
from fastseg.errors import ImageError
from fastseg.images import (
    MAX_PIXELS,
    Channels,
    ImageSource,
    is_stack,
    knows_its_channels,
    read_pixels,
)

FrameChannels: TypeAlias = Literal["rgb", "bgr", "ycbcr"]
"""Order of an array's channels; ultrasound machines store ``"ycbcr"``."""

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]

NEUTRAL_CHROMA = 128
"""Cb and Cr of grey on the scale of 0..255."""

SMALLEST_SIDE = 16
"""A field of view of fewer pixels is a mistaken spacing."""


@dataclass(frozen=True, slots=True)
class View:
    """The square of a frame that a network looks at; it may reach beyond the frame."""

    size: tuple[int, int]
    """Height and width of the frame in pixels."""

    window: tuple[int, int, int, int]
    """``x0, y0, x1, y1``, end-exclusive, in pixels of the frame; zeros lie outside."""


def look(
    size: tuple[int, int], *, cm_per_pixel: float | None = None, field_of_view_cm: float = 20.0
) -> View:
    """Choose the square that spans the field of view, centred in the frame.

    With a known spacing a frame wider than the field loses columns on both sides, a narrower one
    is padded, and rows follow; the surplus is whole pixels, truncated (Ferreira et al. 2025).
    Without one, the longer side of the frame is taken for the field of view.

    Args:
        size: Height and width of the frame in pixels.
        cm_per_pixel: Size of a pixel in cm, or None.
        field_of_view_cm: What the square shows, in cm.

    Raises:
        ImageError: The spacing is not a positive number, or cannot be one of cm per pixel.
    """
    height, width = size
    side = max(height, width)
    if cm_per_pixel is not None:
        if not (np.isfinite(cm_per_pixel) and cm_per_pixel > 0):
            raise ImageError(f"cm_per_pixel must be a positive number of cm, not {cm_per_pixel!r}.")
        # int() cuts towards zero, so that padding and cropping are as the source counts them.
        side = width + int((field_of_view_cm - width * cm_per_pixel) / cm_per_pixel)
        if not SMALLEST_SIDE <= side <= MAX_PIXELS**0.5:
            raise ImageError(
                f"At cm_per_pixel={cm_per_pixel:g}, {field_of_view_cm:g} cm are {side} pixels. "
                "Give the size of one pixel in cm: typically 0.02 to 0.1."
            )
    x0, y0 = _start(width, side), _start(height, side)
    return View(size, (x0, y0, x0 + side, y0 + side))


def _start(length: int, side: int) -> int:
    """Where a centred stretch of ``side`` pixels begins; an odd pixel goes to the far end."""
    return (length - side) // 2 if length >= side else -((side - length) // 2)


def read_frame(
    source: ImageSource,
    *,
    wanted: int,
    channels: FrameChannels = "rgb",
    max_pixels: int | None = MAX_PIXELS,
) -> Pixels:
    """Read one frame as luma, or as luma and chroma.

    Colours become YCbCr as in JPEG (ITU-R BT.601, full range); grey becomes its own luma with
    neutral chroma. Floating-point grey and YCbCr keep their precision; RGB is rounded to 8 bits.

    Args:
        source: What ``read_image`` takes.
        wanted: 1 for luma, 3 for luma, Cb and Cr.
        channels: Order of an array's channels; files know theirs.
        max_pixels: Largest height x width in pixels, None for no limit.

    Returns:
        (H, W, wanted), uint8 0..255 or float32 0..1, C-contiguous.

    Raises:
        ImageError: The source is no frame; see ``read_image``.
    """
    if channels not in get_args(FrameChannels):
        raise ImageError(f"channels must be one of {get_args(FrameChannels)}, not {channels!r}.")
    if isinstance(source, np.ndarray) and source.dtype.kind == "f":
        floating = _read_floating(source, channels)
        if floating is not None:
            return _spread(floating, wanted)
    if channels == "ycbcr" and knows_its_channels(source):
        raise ImageError('files know their own channels: channels="ycbcr" is for stored arrays.')
    # Stored YCbCr passes through as if it were RGB: three channels in their order.
    order: Channels = "rgb" if channels == "ycbcr" else channels
    pixels = read_pixels(source, channels=order, max_pixels=max_pixels)
    if _is_grey(pixels):
        # Grey, however it was stored: a conversion would round it, and chroma cannot equal luma.
        return _spread(pixels[..., :1], wanted)
    if channels != "ycbcr":
        pixels = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    return np.ascontiguousarray(pixels[..., :wanted])


def _read_floating(array: Array, channels: FrameChannels) -> NDArray[np.float32] | None:
    """A float frame whose channels need no conversion, or None."""
    if array.ndim == 3 and array.shape[2] == 3 and channels == "ycbcr":
        frame = array
    elif array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        frame = array.reshape(*array.shape[:2], 1)
    else:
        return None
    # As in read_image; written so that NaN fails too.
    if frame.size == 0 or not (frame.min() >= 0 and frame.max() <= 1):
        return None
    return np.ascontiguousarray(frame, dtype=np.float32)


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether all channels are the same; looks at a third of a coloured frame only."""
    luma = pixels[..., 0]
    return all(np.array_equal(luma, pixels[..., channel]) for channel in range(1, pixels.shape[2]))


def _spread(frame: Pixels, wanted: int) -> Pixels:
    """Bring grey (H, W, 1) or YCbCr (H, W, 3) to the wanted number of channels."""
    if wanted == 3 and frame.shape[2] == 1:
        spread = np.empty((*frame.shape[:2], 3), frame.dtype)
        spread[..., 0] = frame[..., 0]
        spread[..., 1:] = NEUTRAL_CHROMA if frame.dtype == np.uint8 else NEUTRAL_CHROMA / 255
        return cast("Pixels", spread)
    return cast("Pixels", np.ascontiguousarray(frame[..., :wanted]))


def is_clip(source: object) -> bool:
    """Whether ``source`` is many frames: also a stack (n, H, W) of grey ones."""
    if isinstance(source, np.ndarray) and source.ndim == 3:
        return source.shape[2] not in (1, 3, 4) and source.shape[0] not in (3, 4)
    return is_stack(source)


def each_frame(frames: Iterable[Any]) -> Iterator[Any]:
    """The frames of a clip one by one.

    Raises:
        ImageError: One picture was given where many are asked for.
    """
    if not is_clip(frames):
        raise ImageError("many frames are a list, an iterator or a stack (n, H, W, 3), not one.")
    yield from frames
