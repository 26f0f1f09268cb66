"""The image channels of a guided network's input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.guidance import PointPreprocessing


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
