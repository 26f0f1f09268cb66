"""Reading and resizing of one image to the input of a SAM encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts.manifest import Preprocessing
from fastseg.errors import ImageError
from fastseg.geometry import Frame
from fastseg.images import Channels, ImageSource, read_image
from fastseg.inputs.numbers import real_array, shown
from fastseg.timings import Stopwatch

Crop = tuple[int, int, int, int]
"""``x0, y0, x1, y1``, end-exclusive, in pixels of the image."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image, or a crop of it, in the form that the encoder takes."""

    pixels: NDArray[np.float32]
    """(1, 3, side, side) normalised and padded."""

    frame: Frame
    watch: Stopwatch


def prepare(
    image: ImageSource,
    preprocessing: Preprocessing,
    *,
    channels: Channels,
    crop: Crop | None,
    max_pixels: int | None,
    threads: int,
) -> PreparedImage:
    """Read an image and make the encoder's input of it.

    Raises:
        ImageError: The image cannot be used, or the crop does not lie in it.
    """
    watch = Stopwatch()
    with watch("preprocess"):
        pixels = read_image(image, channels=channels, max_pixels=max_pixels)
        height, width = pixels.shape[:2]
        frame = Frame((height, width), preprocessing.side, checked_crop(crop, height, width))
        square = ops.preprocess(
            pixels, frame, preprocessing.mean, preprocessing.std, threads=threads
        )
    return PreparedImage(square[None], frame, watch)


def checked_crop(crop: Crop | None, height: int, width: int) -> Crop | None:
    """Return a crop, ``x0, y0, x1, y1``, as four integers.

    Raises:
        ImageError: It is no part of an image of this size, or has fractions.
    """
    if crop is None:
        return None
    numbers = real_array(crop, "crop", ImageError)
    if numbers.shape != (4,):
        raise ImageError(f"crop must be four numbers, x0 y0 x1 y1, not {shown(crop)}.")
    x0, y0, x1, y1 = numbers.tolist()
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ImageError(
            f"crop {shown(crop)} must be x0 y0 x1 y1 inside the image, {width} x {height} pixels."
        )
    if (numbers != np.trunc(numbers)).any():
        raise ImageError(f"crop {shown(crop)} must be whole pixels. Round it.")
    return int(x0), int(y0), int(x1), int(y1)
