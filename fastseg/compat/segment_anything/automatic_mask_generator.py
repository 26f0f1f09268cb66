"""Masks of a whole image by a grid of points, with the attributes of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastseg.compat.point_grids import checked_point_grids
from fastseg.compat.segment_anything.predictor import SamPredictor
from fastseg.compat.segment_anything.sam import Sam
from fastseg.masks import OutputMode

_SETTINGS = (
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_n_layers",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "crop_n_points_downscale_factor",
    "min_mask_region_area",
)
"""Attributes that ``generate`` reads; they may be changed between calls."""


class SamAutomaticMaskGenerator:
    """SAM's automatic mask generator; ``fastseg.Sam.everything`` explains its settings.

    ``points_per_batch`` is kept and has no effect: fastseg chooses how many prompts a run of the
    decoder takes, and no result depends on it. Neither OpenCV nor pycocotools is needed.

    Raises:
        AssertionError: Both or neither of ``points_per_side`` and ``point_grids`` are given, or
            there is no such output mode.
        PromptError: A setting cannot be used.
    """

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[NDArray[Any]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        self.point_grids = checked_point_grids(locals(), _SETTINGS)
        self.predictor = SamPredictor(model)
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode

    def generate(self, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Find the masks of an image.

        Args:
            image: uint8 (H, W, 3) RGB.

        Returns:
            A dictionary a mask with the keys and types of the reference: ``segmentation``,
            ``area``, ``bbox``, ``predicted_iou``, ``point_coords``, ``stability_score``,
            ``crop_box``.

        Raises:
            ImageError: The image cannot be used.
            PromptError: A setting that was changed cannot be used.
        """
        self.predictor.reset_image()
        settings = {name: getattr(self, name) for name in _SETTINGS}
        masks = self.predictor.model.loaded.everything(
            image, points_per_side=None, point_grids=self.point_grids, **settings
        )
        return masks.records(cast("OutputMode", self.output_mode))
