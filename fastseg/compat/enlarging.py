"""Low-resolution logits enlarged to the image, for callers that want these instead of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def enlarge(
    logits: NDArray[np.float32], side: int, resized: tuple[int, int], image: tuple[int, int]
) -> NDArray[np.float32]:
    """Interpolate logits as SAM does: to the model's square, without its padding, to the image.

    Args:
        logits: float32 (..., h, w).
        side: Side of the model's square in pixels.
        resized: Height and width of the image in the square.
        image: Height and width of the image.

    Returns:
        float32 (..., H, W).
    """
    square = interpolate(logits, (side, side))
    return interpolate(square[..., : resized[0], : resized[1]], image)


def interpolate(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate bilinearly between the middles of pixels, the edge pixels going on outside.

    Args:
        values: float32 (..., h, w).
        size: Height and width of the result.

    Returns:
        float32 (..., *size).
    """
    for axis, length in zip((-2, -1), size, strict=True):
        before = values.shape[axis]
        places = np.maximum((np.arange(length) + 0.5) * (before / length) - 0.5, 0)
        low = np.minimum(places.astype(np.intp), before - 1)
        high = np.minimum(low + 1, before - 1)
        share = (places - low).astype(np.float32)
        share = share[:, None] if axis == -2 else share
        near, far = values.take(low, axis), values.take(high, axis)
        values = near * (1 - share) + far * share
    return values
