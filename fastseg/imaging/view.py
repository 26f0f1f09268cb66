"""One frame of any image file as a model takes it, with its geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.images import MAX_PIXELS, read_image
from fastseg.imaging.image import MedicalImage
from fastseg.imaging.reading import is_medical, read


def read_view(
    path: Path,
    *,
    window: str | None = None,
    frame: int | None = None,
    max_pixels: int | None = MAX_PIXELS,
) -> tuple[NDArray[np.uint8], MedicalImage | None]:
    """Read one image, or a frame of a medical file in its window.

    Args:
        path: The file.
        window: Values that are seen, as in ``read``; None is the file's own.
        frame: Frame of a file that has several, from 0.
        max_pixels: Largest height x width in pixels, None for no limit.

    Returns:
        uint8 (H, W, 3), and the frame with its geometry if the file is a medical one.

    Raises:
        ImageError: It cannot be read, needs a window, or has several frames and none is named.
    """
    if window is None and not is_medical(path):
        return read_image(path, max_pixels=max_pixels), None
    image = read(path, window=window, max_pixels=max_pixels)
    if frame is None and len(image) > 1:
        raise ImageError(f"{path} has {len(image)} frames. Choose one by --frame, from 0.")
    number = frame or 0
    if number >= len(image):
        raise ImageError(f"{path} has {len(image)} frames, from 0, and no --frame {number}.")
    chosen = image[number]
    return read_image(chosen, max_pixels=None, name=str(path)), chosen
