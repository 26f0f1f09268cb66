"""Reading and resizing of one image to the input of a SAM encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import ops
from fastseg.artifacts.preprocessing import (
    LONGEST_SIDE,
    LONGEST_SIDE_AREA,
    MIN_MAX,
    STRETCH_BILINEAR,
    STRETCH_NEAREST,
    STRETCH_PILLOW,
    STRETCH_SPLINE,
    Preprocessing,
)
from fastseg.errors import ImageError
from fastseg.geometry import Frame
from fastseg.images import Channels, ImageSource, read_image
from fastseg.inputs.numbers import real_array, shown
from fastseg.sam.resizing import resize_area, stretch_bilinear, stretch_nearest, stretch_spline
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
        frame = preprocessing.frame((height, width), checked_crop(crop, height, width))
        square = encoder_input(pixels, frame, preprocessing, threads=threads)
    return PreparedImage(square, frame, watch)


def prepared_square(square: NDArray[np.float32], frame: Frame, side: int) -> PreparedImage:
    """Take an image that was resized, normalised and padded elsewhere.

    Args:
        square: (3, side, side).
        frame: ``Preprocessing.frame`` of the image.
        side: Of the encoder's input.

    Raises:
        ImageError: The array has another shape.
    """
    shape = (3, side, side)
    if square.shape != shape:
        raise ImageError(f"a prepared image must be {shape}, not {square.shape}.")
    pixels = np.ascontiguousarray(square[None], np.float32)
    return PreparedImage(pixels, frame, Stopwatch())


def encoder_input(
    pixels: NDArray[np.uint8], frame: Frame, preprocessing: Preprocessing, *, threads: int = 0
) -> NDArray[np.float32]:
    """Resize, normalise and pad an image as its model was trained.

    Args:
        pixels: uint8 (height, width, 3).
        frame: ``Preprocessing.frame`` of the image.
        preprocessing: Of the model.
        threads: Cores to use at most; 0 is all.

    Returns:
        float32 (1, 3, side, side).
    """
    frame = preprocessing.input_frame(frame)
    min_max = preprocessing.normalise == MIN_MAX
    if preprocessing.resize in (LONGEST_SIDE, STRETCH_PILLOW) and not min_max:
        mean, std = preprocessing.mean, preprocessing.std
        return ops.preprocess(pixels, frame, mean, std, threads=threads)[None]
    resized = _resized(pixels, frame, preprocessing)
    if min_max:
        # A constant image has no range; it becomes 0.
        least, largest = float(resized.min()), float(resized.max())
        normal = (resized - np.float64(least)) / max(largest - least, 1e-8)
    else:
        normal = (resized - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    height, width = normal.shape[:2]
    square = np.zeros((1, 3, frame.side, frame.side), np.float32)
    square[0, :, :height, :width] = np.moveaxis(normal, 2, 0)
    return square


def _resized(
    pixels: NDArray[np.uint8], frame: Frame, preprocessing: Preprocessing
) -> NDArray[np.uint8] | NDArray[np.float32]:
    x0, y0, x1, y1 = frame.crop_box
    part = pixels[y0:y1, x0:x1]
    if preprocessing.resize in (LONGEST_SIDE, STRETCH_PILLOW):
        height, width = frame.resized
        smaller = Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(smaller)
    if preprocessing.resize == LONGEST_SIDE_AREA:
        return resize_area(part, frame.resized)
    if preprocessing.resize == STRETCH_SPLINE:
        return stretch_spline(part, frame.side)
    if preprocessing.resize == STRETCH_NEAREST:
        return stretch_nearest(part, frame.side)
    return stretch_bilinear(part, frame.side, widened=preprocessing.resize == STRETCH_BILINEAR)


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
