"""A drop-in for the package ``segment_anything``: the same calls give the same arrays.

Replace ``from segment_anything import ...`` by ``from fastseg.compat.segment_anything import ...``.
A checkpoint is exported once into the user's cache; a model folder of fastseg is taken as it is.
"""

from __future__ import annotations

from fastseg.compat.segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator
from fastseg.compat.segment_anything.build_sam import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    sam_model_registry,
)
from fastseg.compat.segment_anything.predictor import SamPredictor

__all__ = [
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "sam_model_registry",
]
