"""Coordinates of the image in the model's square, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.errors import PromptError
from fastseg.inputs.numbers import real_array


@dataclass(frozen=True, slots=True)
class Frame:
    """The placement of one image, or a crop of it, in the square that a model takes.

    The longest side of the crop becomes ``side`` pixels, the rest of the square is padding at the
    bottom and the right (SAM's convention; Kirillov et al. 2023). A stretched crop fills the square
    and loses its aspect (the convention of SAM 2 and of MedSAM).
    """

    image: tuple[int, int]
    """Height and width of the whole image in pixels."""

    side: int = 1024
    """Side of the model's square input in pixels."""

    crop: tuple[int, int, int, int] | None = None
    """``x0, y0, x1, y1`` of the encoded part, end-exclusive; None is the whole image."""

    stretched: bool = False
    """True if both sides become ``side`` pixels, so that there is no padding."""

    @property
    def crop_box(self) -> tuple[int, int, int, int]:
        """The encoded part as ``x0, y0, x1, y1``, also when it is the whole image."""
        height, width = self.image
        return self.crop if self.crop is not None else (0, 0, width, height)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the encoded part in pixels."""
        x0, y0, x1, y1 = self.crop_box
        return y1 - y0, x1 - x0

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the encoded part inside the square, in model pixels."""
        if self.stretched:
            return self.side, self.side
        height, width = self.size
        scale = self.side / max(height, width)
        # Half up in double precision, as SAM rounds; at least one pixel, so that of an image
        # of 1x65535 pixels something is left.
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def to_model(self, points: ArrayLike) -> NDArray[np.float32]:
        """Map ``(..., 2)`` points, x before y, from the whole image into the square.

        Computed in double precision and rounded once; points outside are mapped, not clipped.

        Raises:
            PromptError: The points are no pairs of real numbers, or are masked.
        """
        x0, y0, _, _ = self.crop_box
        (height, width), (new_height, new_width) = self.size, self.resized
        scale = np.array([new_width / width, new_height / height])
        shifted = _pairs(points) - np.array([x0, y0])
        mapped: NDArray[np.float32] = (shifted * scale).astype(np.float32)
        return mapped

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map ``(..., 2)`` points, x before y, from the square back into the whole image.

        Raises:
            PromptError: As in ``to_model``.
        """
        x0, y0, _, _ = self.crop_box
        (height, width), (new_height, new_width) = self.size, self.resized
        scale = np.array([width / new_width, height / new_height])
        mapped: NDArray[np.float64] = _pairs(points) * scale + [x0, y0]
        return mapped


def _pairs(points: ArrayLike) -> NDArray[np.float64]:
    pairs = real_array(points, "points", PromptError)
    if pairs.shape[-1:] != (2,):
        raise PromptError(f"points must be (..., 2), x before y, not {pairs.shape}.")
    return pairs
