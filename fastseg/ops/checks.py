"""What the native kernels cannot take, said as typed errors before it reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError, MaskError, PromptError
from fastseg.geometry import Frame

LARGEST_THRESHOLD = 1e30
"""Thresholds lie within plus and minus this; logits beyond 1.3e36 are taken as that."""

LARGEST_WINDOW = 2**15
"""Pixels along an edge of a window: a picture of it is made, and 4 GB are enough."""

FramePixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""``(height, width, channels)``."""

FrameNumbers: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]
"""Picture height, width; crop x0, y0, x1, y1; side; resized height, width."""


@contextmanager
def mask_errors() -> Iterator[None]:
    """Turn what the kernels say about run lengths into ``MaskError``."""
    try:
        yield
    except ValueError as error:
        raise MaskError(str(error)) from error


def threads(count: int) -> int:
    """Make sure that a number of threads makes sense; 0 stands for all cores.

    Raises:
        PromptError: it is negative.
    """
    if count < 0:
        raise PromptError(f"threads must be 0 (all cores) or more, not {count}")
    return count


def picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make sure of a ``(height, width, 3)`` uint8 picture; gives it C-contiguous.

    Raises:
        ImageError: it is something else, or empty.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(
            f"a picture must be (height, width, 3) uint8 and not empty, "
            f"not {image.shape} {image.dtype}"
        )
    return np.ascontiguousarray(image)


def frame(values: FramePixels) -> FramePixels:
    """Make sure of ``(height, width, channels)`` uint8 or float32 pixels; gives them C-contiguous.

    Raises:
        ImageError: they are something else, or there are none.
    """
    pixels: NDArray[Any] = np.ascontiguousarray(values)
    if np.ndim(values) != 3 or 0 in pixels.shape or pixels.dtype not in (np.uint8, np.float32):
        raise ImageError(
            "a frame must be (height, width, channels) uint8 or float32 and not empty, "
            f"not {np.shape(values)} {pixels.dtype}"
        )
    return pixels


def window(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Make sure that a window looks at a part of a frame of this height and width.

    Raises:
        ImageError: it is empty, too large, or nowhere over the frame.
    """
    x0, y0, x1, y1 = (int(edge) for edge in box)
    height, width = size
    if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise ImageError(f"the window {box} shows no part of a frame of {width} x {height} pixels")
    if max(x1 - x0, y1 - y0) > LARGEST_WINDOW:
        raise ImageError(f"the window {box} is larger than {LARGEST_WINDOW} pixels")
    return x0, y0, x1, y1


def frame_numbers(frame: Frame) -> FrameNumbers:
    """Give a frame as the kernels take it.

    Raises:
        ImageError: its crop is no part of its picture, or its square is empty.
    """
    height, width = frame.image
    x0, y0, x1, y1 = frame.crop_box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height) or frame.side < 1:
        raise ImageError(
            f"the crop {frame.crop_box} must be a part of the picture of {frame.image}, "
            f"and the side {frame.side} at least 1"
        )
    return height, width, x0, y0, x1, y1, frame.side, *frame.resized


def logits(values: NDArray[np.float32], frame: Frame) -> NDArray[np.float32]:
    """Make sure of ``(n, h, w)`` float32 logits; gives them with C-contiguous planes.

    Raises:
        MaskError: they are something else, or larger than the frame's square.
    """
    values = np.asarray(values)
    if values.ndim != 3 or values.dtype != np.float32 or 0 in values.shape[1:]:
        raise MaskError(f"logits must be (n, h, w) float32, not {values.shape} {values.dtype}")
    if max(values.shape[1:]) > frame.side:
        raise MaskError(
            f"logits of {values.shape[1:]} are larger than their square of {frame.side} pixels"
        )
    step = values.itemsize
    contiguous_planes = values.strides[1:] == (step * values.shape[2], step)
    if not contiguous_planes or values.strides[0] % step:
        values = np.ascontiguousarray(values)
    return values


def chosen(index: NDArray[np.intp] | None, count: int) -> NDArray[np.int64]:
    """Make sure of positions ``(k,)`` in 0..count - 1; gives them as int64, all of them for None.

    Raises:
        MaskError: they are something else.
    """
    if index is None:
        return np.arange(count, dtype=np.int64)
    index = np.asarray(index)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise MaskError(f"chosen must be (k,) positions, not {index.shape} {index.dtype}")
    if len(index) and not (index.min() >= 0 and index.max() < count):
        raise MaskError(f"chosen must lie in 0..{count - 1}, not {index.min()}..{index.max()}")
    return np.ascontiguousarray(index, np.int64)


def mask_planes(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Make sure of ``(n, h, w)`` bool masks with pixels; gives them C-contiguous.

    Raises:
        MaskError: they are something else, or have no pixels.
    """
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.dtype != np.bool_ or 0 in masks.shape[1:]:
        raise MaskError(
            f"masks must be (n, h, w) bool with at least one pixel, not {masks.shape} {masks.dtype}"
        )
    return np.ascontiguousarray(masks)


def chamber_planes(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make sure of ``(n, channels, h, w)`` float32 probabilities; gives them C-contiguous.

    Raises:
        MaskError: they are something else, or a plane has no pixels.
    """
    values = np.asarray(values)
    if values.ndim != 4 or values.dtype != np.float32 or 0 in values.shape[1:]:
        raise MaskError(
            f"probabilities must be (n, channels, h, w) float32 with at least one pixel, "
            f"not {values.shape} {values.dtype}"
        )
    return np.ascontiguousarray(values)


def thresholds(threshold: float, stability_offset: float) -> None:
    """Make sure that masks can be cut at these.

    Raises:
        PromptError: one is not a finite number, or the offset is negative.
    """
    if not (abs(threshold) <= LARGEST_THRESHOLD and 0 <= stability_offset <= LARGEST_THRESHOLD):
        raise PromptError(
            "threshold must be finite and stability_offset must be finite and not negative, "
            f"not {threshold} and {stability_offset}"
        )
