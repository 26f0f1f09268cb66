"""The crops of an image that SAM's automatic mask generation encodes."""

from __future__ import annotations

import math
from itertools import product

from fastseg.errors import PromptError
from fastseg.geometry import Frame


def crop_frames(
    image: tuple[int, int],
    side: int,
    *,
    layers: int,
    overlap_ratio: float,
    stretched: bool = False,
) -> list[tuple[int, Frame]]:
    """List ``(layer, frame)`` of the whole image, then of the crops of each further layer.

    Layer ``i`` has ``2**i`` crops a side, from left to right and within that from top to bottom,
    which overlap by ``overlap_ratio`` of the image's shorter side, less in each layer
    (Kirillov et al. 2023, appendix B).

    Args:
        image: Height and width of the image in pixels.
        side: Side of the model's square.
        layers: Layers beyond the whole image; 0 is the whole image alone.
        overlap_ratio: 0..1.
        stretched: True if the model's images fill the square, see ``Frame``.

    Raises:
        PromptError: The image is too small for so many layers: a crop would hold no pixel.
    """
    height, width = image
    frames = [(0, Frame(image, side, stretched=stretched))]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        if per_side > min(image):
            raise _too_small(image, layers, layer)
        overlap = int(overlap_ratio * min(image) * (2 / per_side))
        crop_width = math.ceil((overlap * (per_side - 1) + width) / per_side)
        crop_height = math.ceil((overlap * (per_side - 1) + height) / per_side)
        for column, row in product(range(per_side), range(per_side)):
            x0, y0 = column * (crop_width - overlap), row * (crop_height - overlap)
            crop = (x0, y0, min(x0 + crop_width, width), min(y0 + crop_height, height))
            if not (x0 < crop[2] and y0 < crop[3]):
                raise _too_small(image, layers, layer)
            frames.append((layer, Frame(image, side, crop, stretched)))
    return frames


def _too_small(image: tuple[int, int], layers: int, layer: int) -> PromptError:
    return PromptError(
        f"an image of {image[1]} x {image[0]} pixels is too small for crop_n_layers={layers}: "
        f"crops of layer {layer} would hold no pixel. Ask for fewer layers."
    )
