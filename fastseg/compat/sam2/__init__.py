"""A drop-in for the images of the package ``sam2``: the same calls give the same arrays.

Replace ``from sam2.`` by ``from fastseg.compat.sam2.``; the modules have the names of the package.
A checkpoint is exported once into the user's cache; a model folder of fastseg is taken as it is.
"""

from __future__ import annotations

from fastseg.compat.sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from fastseg.compat.sam2.build_sam import build_sam2
from fastseg.compat.sam2.sam2_image_predictor import SAM2ImagePredictor

__all__ = ["SAM2AutomaticMaskGenerator", "SAM2ImagePredictor", "build_sam2"]
