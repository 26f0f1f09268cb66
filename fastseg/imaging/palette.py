"""Colours of masks and labels, far from their neighbours and equally bright."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN_ANGLE = 2.399963  # radians; consecutive hues are never close


def colours(count: int) -> NDArray[np.uint8]:
    """Choose ``count`` colours that are far from their neighbours in the list and equally bright.

    Hues step by the golden angle in the OKLCH colour space (Ottosson 2020), so that no hue looks
    heavier than another.

    Returns:
        uint8 (count, 3) sRGB.
    """
    hue = 0.6 + _GOLDEN_ANGLE * np.arange(count)
    lightness = np.where(np.arange(count) % 2, 0.82, 0.74)
    a, b = 0.145 * np.cos(hue), 0.145 * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cone**3 @ to_linear.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    palette: NDArray[np.uint8] = np.round(encoded * 255).astype(np.uint8)
    return palette
