"""Small PNG images by which masks and embeddings show themselves in notebooks."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.imaging.palette import colours

LONG_SIDE = 512
"""Longest side of a preview in pixels."""

_GROUND = 24
"""Grey level where there is no mask."""


def paint(layers: Iterable[NDArray[np.bool_]], count: int, size: tuple[int, int]) -> bytes:
    """Draw masks in distinct colours on a dark ground, later ones over earlier ones.

    Args:
        layers: ``count`` masks of (H, W), taken one by one.
        count: Number of masks; each has the colour of its place.
        size: H and W.

    Returns:
        A PNG file of at most ``LONG_SIDE`` pixels a side; every n-th pixel is shown.
    """
    step = -(-max(size) // LONG_SIDE)
    height, width = (-(-side // step) for side in size)
    canvas = np.full((height, width, 3), _GROUND, np.uint8)
    for colour, layer in zip(colours(count), layers, strict=True):
        canvas[layer[::step, ::step]] = colour
    return _png(canvas)


def project(features: NDArray[np.float32]) -> bytes:
    """Draw the three strongest directions of feature vectors as red, green and blue.

    Each direction (principal component) is scaled from its least to its largest value, and its
    sign is that which makes its largest coefficient positive, so equal features give equal images.

    Args:
        features: (channels, H, W) of at least three channels.

    Returns:
        A PNG file of ``LONG_SIDE`` pixels on the longer side.
    """
    channels, height, width = features.shape
    vectors = features.reshape(channels, -1).T.astype(np.float64)
    vectors -= vectors.mean(axis=0)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    strongest = directions[:, :-4:-1]
    largest = np.abs(strongest).argmax(axis=0)
    strongest = strongest * np.where(strongest[largest, range(3)] < 0, -1.0, 1.0)
    shown = vectors @ strongest
    least, span = shown.min(axis=0), np.ptp(shown, axis=0)
    levels = (shown - least) / np.where(span > 0, span, 1.0) * 255
    pixels = np.round(levels).astype(np.uint8).reshape(height, width, 3)
    scale = LONG_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _png(pixels, size)


def _png(pixels: NDArray[np.uint8], size: tuple[int, int] | None = None) -> bytes:
    image = Image.fromarray(pixels)
    if size is not None:
        image = image.resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
