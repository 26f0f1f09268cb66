"""Masks of structures by name, frame by frame, with the scale that their file states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class MaskFrames:
    """The masks of one file or image, frame by frame."""

    name: str
    """The file, or the image that a file of many describes."""

    labels: tuple[str, ...]
    """Names of the structures."""

    count: int
    """Number of frames or slices."""

    size: tuple[int, int]
    """Height and width in pixels."""

    frame: Callable[[int], NDArray[np.bool_]]
    """Returns the masks of a frame, bool (labels, H, W)."""

    spacing: tuple[float, float] | None = None
    """Height and width of a pixel in mm, if the file states them."""

    slice_spacing: float | None = None
    """Distance of the slices of a volume in mm, if the file states it."""
