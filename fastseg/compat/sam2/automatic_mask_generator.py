"""Masks of a whole image by a grid of points, with the attributes of SAM 2's reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from fastseg.compat.point_grids import checked_point_grids
from fastseg.compat.sam2.model import Sam2, refuse_download
from fastseg.compat.sam2.refining_decoder import RefiningDecoder
from fastseg.compat.sam2.sam2_image_predictor import SAM2ImagePredictor
from fastseg.contract import MULTIPLE, SINGLE
from fastseg.masks import OutputMode
from fastseg.sam.grid_settings import GridSettings
from fastseg.sam.mask_generator import MaskGenerator, Pipeline

_SETTINGS = (
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_n_layers",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "crop_n_points_downscale_factor",
)
"""Attributes that ``generate`` reads as settings; they may be changed between calls."""


class SAM2AutomaticMaskGenerator:
    """SAM 2's automatic mask generator; ``fastseg.Sam.everything`` explains its settings.

    ``points_per_batch`` is kept and has no effect: no result depends on it. As in the reference
    without its extension for GPUs, ``min_mask_region_area`` has none either, and a warning says so.

    Args:
        model: A model of ``build_sam2``.
        points_per_side: As in ``everything``, like all that are not named below.
        points_per_batch: Without effect.
        pred_iou_thresh: As in ``everything``.
        stability_score_thresh: As in ``everything``.
        stability_score_offset: As in ``everything``.
        mask_threshold: Logit above which a pixel is in a mask.
        box_nms_thresh: As in ``everything``.
        crop_n_layers: As in ``everything``.
        crop_nms_thresh: As in ``everything``.
        crop_overlap_ratio: As in ``everything``.
        crop_n_points_downscale_factor: As in ``everything``.
        point_grids: As in ``everything``.
        min_mask_region_area: Without effect.
        output_mode: ``"binary_mask"``, ``"uncompressed_rle"`` or ``"coco_rle"``.
        use_m2m: Decode every mask once more, with its own logits as a mask prompt.
        multimask_output: Three masks a point, or one.
        **kwargs: Without effect, as in the reference.

    Raises:
        AssertionError: Both or neither of ``points_per_side`` and ``point_grids`` are given, or
            there is no such output mode.
        PromptError: A setting cannot be used.
    """

    def __init__(
        self,
        model: Sam2,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[NDArray[Any]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: Any,
    ) -> None:
        self.point_grids = checked_point_grids(locals(), _SETTINGS)
        self.predictor = SAM2ImagePredictor(
            model, max_hole_area=min_mask_region_area, max_sprinkle_area=min_mask_region_area
        )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.mask_threshold = mask_threshold
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.use_m2m = use_m2m
        self.multimask_output = multimask_output

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> NoReturn:  # noqa: ARG003
        """Refuse to fetch a model by its name.

        Raises:
            CheckpointError: Always; see ``build_sam2``.
        """
        refuse_download(model_id)

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
        self.predictor.reset_predictor()
        chosen: dict[str, Any] = {name: getattr(self, name) for name in _SETTINGS}
        settings = GridSettings(points_per_side=None, point_grids=self.point_grids, **chosen)
        masks = MaskGenerator(self._pipeline(), settings).generate(image, "rgb")
        records = masks.records(cast("OutputMode", self.output_mode))
        for record in records:  # points are float32 in the reference
            record["point_coords"] = np.float32(record["point_coords"]).tolist()
        return records

    def _pipeline(self) -> Pipeline:
        model = self.predictor.model
        loaded = model.loaded
        decoder = RefiningDecoder(
            loaded.decoder.graphs,
            model.output_rules,
            slots=MULTIPLE if self.multimask_output else SINGLE,
            refined=self.use_m2m,
            threshold=self.mask_threshold,
        )
        return Pipeline(
            embed=loaded.embed,
            decoder=decoder,
            gpu=None,
            manifest=loaded.manifest,
            threads=loaded.threads,
            max_pixels=loaded.max_pixels,
        )
