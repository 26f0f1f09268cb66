"""Preparation of images for a model: resizing, cropping, normalising."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import _core
from fastseg.errors import ImageError
from fastseg.geometry import Frame
from fastseg.ops import checks


def resize_bilinear(
    image: NDArray[np.uint8], size: tuple[int, int], *, threads: int = 0
) -> NDArray[np.uint8]:
    """Resize an image exactly as Pillow's ``BILINEAR`` does, which antialiases when shrinking.

    Exactly as Pillow 13; earlier ones always go horizontally first, which changes the last bit
    where the height loses more than twice as many pixels as the width.

    Args:
        image: ``(height, width, 3)`` uint8.
        size: height and width of the result in pixels.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(*size, 3)`` uint8.

    Raises:
        ImageError: the image is not of that shape and dtype, or one of the sizes is empty.
    """
    image, (height, width) = checks.image(image), size
    if height < 1 or width < 1:
        raise ImageError(f"an image cannot be resized to {height} x {width} pixels")
    out = np.empty((height, width, 3), np.uint8)
    _core.resize_bilinear(image, out, checks.threads(threads))
    return out


def preprocess(
    image: NDArray[np.uint8], frame: Frame, mean: ArrayLike, std: ArrayLike, *, threads: int = 0
) -> NDArray[np.float32]:
    """Make a model's input: crop, resize, normalise, then pad with zeros at the bottom and right.

    Args:
        image: ``(height, width, 3)`` uint8, the whole image.
        frame: the part of the image to use, and its size in the square.
        mean: of the three channels, 0 to 255.
        std: of the three channels.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(3, side, side)`` float32, ``(value - mean) / std`` in single precision.

    Raises:
        ImageError: the image is not of that shape and dtype, or not of ``frame``'s size.
    """
    image, native_frame = checks.image(image), checks.native_frame(frame)
    if image.shape[:2] != tuple(frame.image):
        raise ImageError(f"the frame is for an image of {frame.image}, not {image.shape[:2]}")
    means, stds = (np.ascontiguousarray(values, dtype=np.float32) for values in (mean, std))
    if not means.shape == stds.shape == (3,):
        raise ImageError(f"mean and std have three numbers each, not {mean!r} and {std!r}")
    out = np.empty((3, frame.side, frame.side), np.float32)
    _core.preprocess(image, native_frame, means, stds, out, checks.threads(threads))
    return out
