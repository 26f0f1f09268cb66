"""Checks of arguments that raise typed errors before a native kernel sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import ImageError, MaskError, PromptError
from fastseg.geometry import Frame

LARGEST_THRESHOLD = 1e30
"""Bound of a threshold's absolute value; logits beyond 1.3e36 count as 1.3e36."""

LARGEST_WINDOW = 2**15
"""Pixels along an edge of a window; an image of that size takes 4 GB."""

FramePixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""``(height, width, channels)``."""


@contextmanager
def mask_errors() -> Iterator[None]:
    """Raise the kernels' ``ValueError`` about run lengths as ``MaskError``."""
    try:
        yield
    except ValueError as error:
        raise MaskError(str(error)) from error


def threads(count: int) -> int:
    """Check a number of threads; 0 stands for all cores.

    Raises:
        PromptError: it is negative.
    """
    if count < 0:
        raise PromptError(f"threads must be 0 (all cores) or more, not {count}")
    return count


def image(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check a ``(height, width, 3)`` uint8 image and return it C-contiguous.

    Raises:
        ImageError: it is something else, or empty.
    """
    image = np.asarray(values)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(
            f"an image must be (height, width, 3) uint8 and not empty, "
            f"not {image.shape} {image.dtype}"
        )
    return np.ascontiguousarray(image)


def frame(values: FramePixels) -> FramePixels:
    """Check ``(height, width, channels)`` uint8 or float32 pixels and return them C-contiguous.

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
    """Check that a window overlaps a frame of this height and width.

    Raises:
        ImageError: it is empty, too large, or outside the frame.
    """
    x0, y0, x1, y1 = (int(edge) for edge in box)
    height, width = size
    if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise ImageError(f"the window {box} shows no part of a frame of {width} x {height} pixels")
    if max(x1 - x0, y1 - y0) > LARGEST_WINDOW:
        raise ImageError(f"the window {box} is larger than {LARGEST_WINDOW} pixels")
    return x0, y0, x1, y1


def native_frame(frame: Frame) -> _core.Frame:
    """Convert a frame to the kernels' own type.

    Raises:
        ImageError: its crop is not inside its image, or its square is empty.
    """
    height, width = frame.image
    x0, y0, x1, y1 = frame.crop_box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height) or frame.side < 1:
        raise ImageError(
            f"the crop {frame.crop_box} must be a part of the image of {frame.image}, "
            f"and the side {frame.side} at least 1"
        )
    return _core.Frame(
        image=frame.image, crop=frame.crop_box, side=frame.side, resized=frame.resized
    )


def logits(values: NDArray[np.float32], frame: Frame) -> NDArray[np.float32]:
    """Check ``(n, h, w)`` float32 logits and return them with C-contiguous planes.

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
    """Check positions ``(k,)`` in 0..count - 1 and return them as int64; None stands for all.

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
    """Check ``(n, h, w)`` bool masks with pixels and return them C-contiguous.

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
    """Check ``(n, channels, h, w)`` float32 probabilities and return them C-contiguous.

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
    """Check the thresholds of masks.

    Raises:
        PromptError: one is not a finite number, or the offset is negative.
    """
    if not (abs(threshold) <= LARGEST_THRESHOLD and 0 <= stability_offset <= LARGEST_THRESHOLD):
        raise PromptError(
            "threshold must be finite and stability_offset must be finite and not negative, "
            f"not {threshold} and {stability_offset}"
        )
