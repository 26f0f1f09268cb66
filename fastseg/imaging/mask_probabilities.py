"""Probabilities of pixels by the low-resolution logits of their masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.geometry import Frame
from fastseg.imaging.mask_set import MaskSet

_SHRINKS = 4
"""Side of a model's square over the side of its logits."""

_LEAST = np.float32(128 / 255)
"""Least probability inside of a mask. 0.5 itself is no level of 8 bits."""


def probabilities(masks: MaskSet) -> NDArray[np.float32]:
    """Return float32 (n, H, W) in 0..1, at least 0.5 inside of each mask and less outside.

    They are the sigmoid of the logits, interpolated to the image as SAM does. Masks without logits
    get 0 and 1.
    """
    inside = masks.array()
    if masks.logits is None:
        return inside.astype(np.float32)
    height, width = masks.size
    found = np.empty(inside.shape, np.float32)
    for logits, mask, out in zip(masks.logits, inside, found, strict=True):
        frame = Frame((height, width), _SHRINKS * len(logits))
        rows, columns = frame.resized
        square = Image.fromarray(logits).resize((frame.side,) * 2, Image.Resampling.BILINEAR)
        image = square.crop((0, 0, columns, rows)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        out[...] = 1 / (1 + np.exp(-np.clip(np.asarray(image), -60, 60)))
        # Interpolation rounds otherwise than the mask did, and a pixel must not change its side.
        out[...] = np.where(mask, np.maximum(out, _LEAST), np.minimum(out, 1 - _LEAST))
    return found
