"""Images and coordinates from an image to the model's square, as in the reference."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class ResizeLongestSide:
    """Resizing of the longest side to ``target_length``, for images, points and boxes."""

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an image, uint8 (H, W, C), by Pillow's bilinear filter."""
        height, width = self.get_preprocess_shape(
            image.shape[0], image.shape[1], self.target_length
        )
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        return np.array(resized)

    def apply_coords(
        self, coords: NDArray[Any], original_size: tuple[int, ...]
    ) -> NDArray[np.float64]:
        """Map points (..., 2), x before y, of an image of (H, W) into the square."""
        scales = self._scales(original_size)
        return deepcopy(coords).astype(float) * scales

    def apply_boxes(
        self, boxes: NDArray[Any], original_size: tuple[int, ...]
    ) -> NDArray[np.float64]:
        """Map boxes (n, 4), x0 y0 x1 y1, of an image of (H, W) into the square."""
        return self.apply_coords(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: Any, original_size: tuple[int, ...]) -> Any:
        """Map points as ``apply_coords``, a tensor to a float32 tensor."""
        mapped = deepcopy(coords).float()
        for axis, scale in enumerate(self._scales(original_size).tolist()):
            mapped[..., axis] = mapped[..., axis] * scale
        return mapped

    def apply_boxes_torch(self, boxes: Any, original_size: tuple[int, ...]) -> Any:
        """Map boxes as ``apply_boxes``, a tensor to a float32 tensor."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Return height and width after resizing the longest side."""
        scale = long_side_length / max(oldh, oldw)
        return int(oldh * scale + 0.5), int(oldw * scale + 0.5)

    def _scales(self, original_size: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the factors of x and y."""
        height, width = original_size[:2]
        new_height, new_width = self.get_preprocess_shape(height, width, self.target_length)
        return np.array([new_width / width, new_height / height])
