"""The image channels of a guided network's input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.guidance import (
    MIN_MAX,
    TILES,
    UNIT,
    Z_SCORE,
    BoxPreprocessing,
    PointPreprocessing,
)
from fastseg.errors import ImageError
from fastseg.sam.resizing import resize_area


def image_input(
    pixels: NDArray[np.uint8], preprocessing: PointPreprocessing
) -> NDArray[np.float32]:
    """Normalise an image as its model was trained.

    Args:
        pixels: uint8 (height, width, 3).
        preprocessing: Of the model.

    Returns:
        float32 (3, height, width).
    """
    mean, std = (np.array(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    normal = (pixels.astype(np.float32) - mean) / std
    return np.ascontiguousarray(np.moveaxis(normal, 2, 0))


def box_input(pixels: NDArray[np.uint8], preprocessing: BoxPreprocessing) -> NDArray[np.float32]:
    """Resize and normalise an image; one that is seen in tiles stays as it is.

    Args:
        pixels: uint8 (height, width, 3).
        preprocessing: Of the model.

    Returns:
        float32 (channels, h, w).

    Raises:
        ImageError: The image has colours, and the model takes grey.
    """
    if preprocessing.channels == 1:
        if (pixels != pixels[..., :1]).any():
            raise ImageError(
                "the image has colours, and this model was trained on grey images. Convert it: "
                'PIL.Image.open(...).convert("L").'
            )
        pixels = pixels[..., :1]
    tiled = preprocessing.resize == TILES
    resized = pixels if tiled else resize_area(pixels, preprocessing.size)
    maps = np.ascontiguousarray(np.moveaxis(resized, 2, 0)).astype(np.float32)
    return maps if tiled else normalised(maps, preprocessing.normalise)


def normalised(maps: NDArray[np.float32], word: str) -> NDArray[np.float32]:
    """Normalise maps (channels, h, w) by a word of ``BoxPreprocessing.normalise``."""
    normal: NDArray[Any] = maps
    if word == MIN_MAX:
        least, largest = float(maps.min()), float(maps.max())
        normal = (maps - least) / max(largest - least, 1e-8)
    elif word == Z_SCORE:
        mean = maps.mean(axis=(1, 2), keepdims=True)
        normal = (maps - mean) / np.maximum(maps.std(axis=(1, 2), keepdims=True), 1e-8)
    elif word == UNIT:
        normal = maps / 255
    return normal.astype(np.float32, copy=False)


def filled_part(maps: NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the rows and columns of the box around all pixels that are not 0 in every channel."""
    filled = (maps != 0).any(axis=0)
    rows, columns = (np.flatnonzero(filled.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
