"""Reading of ultrasound video frames as luma and chroma, and the choice of their view."""

from __future__ import annotations

import math
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
from fastseg.inputs.numbers import one_of, real_number, shown

FrameChannels: TypeAlias = Literal["rgb", "bgr", "ycbcr"]
"""Order of an array's channels; ultrasound machines store ``"ycbcr"``."""

_YCBCR_SHARE = 0.9
"""Share of pixels with chroma near its middle from which an array is taken for YCbCr."""

_NEAR_GREY = 8
"""Largest difference of two channels of grey tissue in RGB."""

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]

NEUTRAL_CHROMA = 128
"""Cb and Cr of grey on the scale of 0..255."""

_FAR = 2.0**53
"""More pixels than any image has; beyond it a float is no longer every integer."""

_NARROWEST = 3
"""Height over width from which frames are taken for a mistaken order of axes."""

_AXES = [sorted(axes) for axes in ("hw", "hwc", "nhw", "nhwc")]

SMALLEST_SIDE = 16
"""A field of view of fewer pixels is a mistaken spacing."""

LARGEST_FRAME_CM = 100.0
"""No ultrasound frame shows so much; a longer one has a mistaken spacing, in mm for one."""


@dataclass(frozen=True, slots=True)
class View:
    """The square of a video frame that a network sees; it may reach beyond the frame."""

    size: tuple[int, int]
    """Height and width of the frame in pixels."""

    window: tuple[int, int, int, int]
    """``x0, y0, x1, y1``, end-exclusive, in pixels of the frame; zeros lie outside."""


def choose_view(
    size: tuple[int, int], *, cm_per_pixel: float | None = None, field_of_view_cm: float = 20.0
) -> View:
    """Choose the square that spans the field of view, centred in the frame.

    With a known spacing a frame wider than the field loses columns on both sides, a narrower one
    is padded, and rows follow; the surplus is whole pixels, truncated (Ferreira et al. 2025).
    Without one, the longer side of the frame is taken for the field of view.

    Args:
        size: Height and width of the frame in pixels.
        cm_per_pixel: Size of a pixel in cm, or None.
        field_of_view_cm: Side of the square in cm.

    Raises:
        ImageError: The spacing is not a positive number, or cannot be one of cm per pixel.
    """
    height, width = size
    side = max(height, width)
    if cm_per_pixel is not None:
        scale = real_number(cm_per_pixel, "cm_per_pixel", ImageError, positive=True)
        surplus = (field_of_view_cm - width * scale) / scale
        # Written so that infinity, of a scale near zero, fails it too.
        if (
            not SMALLEST_SIDE
            <= width + math.trunc(min(max(surplus, -_FAR), _FAR))
            <= MAX_PIXELS**0.5
        ):
            raise ImageError(
                f"At cm_per_pixel={scale:g}, {field_of_view_cm:g} cm are "
                f"{field_of_view_cm / scale:.6g} pixels. "
                "Give the size of one pixel in cm: typically 0.02 to 0.1."
            )
        check_scale(size, scale, "the frame")
        # Cut towards zero, so that padding and cropping are as the source counts them.
        side = width + math.trunc(surplus)
    x0, y0 = _start(width, side), _start(height, side)
    return View(size, (x0, y0, x0 + side, y0 + side))


def check_scale(size: tuple[int, int], cm_per_pixel: float, what: str) -> None:
    """Refuse a spacing that makes a frame, (height, width), as long as no frame is.

    Raises:
        ImageError: It does.
    """
    longest = max(size) * cm_per_pixel
    if longest >= LARGEST_FRAME_CM:
        raise ImageError(
            f"{what} of {size[1]} x {size[0]} pixels would be {longest:.0f} cm long at "
            f"cm_per_pixel={cm_per_pixel:g}, more than ultrasound shows. Give the size of one "
            "pixel in cm by cm_per_pixel (--cm-per-pixel): typically 0.02 to 0.1."
        )


def _start(length: int, side: int) -> int:
    """Return the first pixel of a centred stretch of ``side``; an odd pixel goes to the far end."""
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
    one_of(channels, get_args(FrameChannels), "channels", ImageError)
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
    """Read a float frame whose channels need no conversion; None for any other."""
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
    """Tell if all channels are the same; reads a third of a coloured frame only."""
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
    """Tell if ``source`` is many frames; a stack (n, H, W) of grey ones is, for any n.

    Raises:
        ImageError: An array has three axes and the last may be that of the frames.
    """
    if not isinstance(source, np.ndarray) or source.ndim != 3:
        return is_stack(source)
    if source.shape[2] in (1, 3, 4):
        return False
    count, height, width = source.shape
    if height > _NARROWEST * width:
        raise ImageError(
            f"the array {source.shape} would be {count} frames of {width} x {height} pixels. Say "
            'axes="hwn" if its frames lie along the last axis, and axes="nhw" otherwise.'
        )
    return True


def arrange(frames: Any, axes: str | None) -> Any:
    """Bring an array to the order of axes that frames have here.

    Args:
        frames: An array if ``axes`` is given, and anything otherwise.
        axes: A letter for each axis: ``h`` and ``w``, ``n`` for frames, ``c`` for channels.

    Returns:
        A frame (H, W) or (H, W, channels); with ``n`` a list of such frames. None of it is copied.
        ``frames`` itself without ``axes``.

    Raises:
        ImageError: ``axes`` does not fit the array, or ``frames`` is none.
    """
    if axes is None:
        return frames
    if not isinstance(axes, str) or sorted(axes) not in _AXES:
        raise ImageError(f'axes must be letters like "hw", "nhw" or "nhwc", not {shown(axes)}.')
    if not isinstance(frames, np.ndarray) or frames.ndim != len(axes):
        given = getattr(frames, "shape", type(frames).__name__)
        raise ImageError(f'axes="{axes}" is for a NumPy array of {len(axes)} axes, not {given}.')
    array = frames.transpose([axes.index(letter) for letter in "nhwc" if letter in axes])
    return list(array) if "n" in axes else array


def each_frame(frames: Iterable[Any]) -> Iterator[Any]:
    """Yield the frames of a clip one by one.

    Raises:
        ImageError: One image was given where many are asked for.
    """
    if not is_clip(frames):
        raise ImageError("many frames are a list, an iterator or a stack (n, H, W, 3), not one.")
    yield from frames


def looks_like_ycbcr(frame: object) -> bool:
    """Tell if the last two channels of an array are chroma: near their middle in most pixels.

    Read as RGB such a frame gives masks that look right and are not. In an RGB frame of grey tissue
    the channels are as dark and as bright as the tissue. Pixels that are zero in every channel are
    left out, and a grey frame is no such frame.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        return False
    if frame.size > 3 * MAX_PIXELS:  # a view of few bytes can be larger than any memory
        return False
    middle, reach = (128, 64) if frame.dtype == np.uint8 else (0.5, 0.25)
    chroma = frame[frame.any(axis=2)][:, 1:].astype(np.float32)
    near = (np.abs(chroma - middle) <= reach).all(axis=1)
    varied = bool((frame != frame[..., :1]).any())
    return varied and bool(near.mean() >= _YCBCR_SHARE) if len(near) else False


def looks_like_rgb(frame: NDArray[np.uint8]) -> bool:
    """Tell if the channels of a coloured frame are nearly equal, as in RGB of grey tissue.

    Chroma is near its middle wherever tissue is, dark or bright. A frame that is grey throughout
    is no such frame: it is read as its own luma in either order.
    """
    luma = frame[..., :1].astype(np.int16)
    if _is_grey(frame) or looks_like_ycbcr(frame):
        return False
    near = (np.abs(frame[..., 1:] - luma) <= _NEAR_GREY).all(axis=2)
    return bool(near.mean() >= _YCBCR_SHARE)


def resolve_channels(frame: object, channels: FrameChannels | None) -> FrameChannels:
    """Return the order of channels that a user gave, or RGB where a frame does not contradict it.

    Args:
        frame: A frame of a call.
        channels: Order of an array's channels, or None.

    Raises:
        ImageError: No order was given, and the frame looks like luma and chroma.
    """
    if channels is not None:
        one_of(channels, get_args(FrameChannels), "channels", ImageError)
    elif looks_like_ycbcr(frame):
        raise ImageError(
            "the frame looks like luma and chroma, as DICOM stores frames. Say "
            'channels="ycbcr", or channels="rgb" if these are colours.'
        )
    return channels or "rgb"
