"""Everything mode of networks that draw one mask a point: a grid of points, and filters."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.errors import PromptError
from fastseg.guided.image import GuidedImage
from fastseg.inputs.numbers import function_of_two_numbers
from fastseg.masks import Masks
from fastseg.ops import Rle
from fastseg.sam.grid_settings import GridSettings, grid_points
from fastseg.sam.mask_generator import Progress, without_small_regions
from fastseg.timings import Stopwatch


class PointModel(Protocol):
    """A model that draws the mask of one point."""

    def mask_of_point(
        self, image: GuidedImage, point: NDArray[np.float64], offset: float, /
    ) -> tuple[Rle, float, float]:
        """Return one mask, its score and its stability."""
        ...


def refuse_settings(settings: GridSettings) -> None:
    """Refuse the settings that these networks have no meaning for.

    Raises:
        PromptError: Crops or a coarse-to-fine search are asked for.
    """
    if settings.crop_n_layers:
        raise PromptError(
            f"crop_n_layers={settings.crop_n_layers} is for models with a fixed input. This one "
            "sees images at their own size: leave it at 0."
        )
    if settings.search != "full":
        raise PromptError(
            f'search="{settings.search}" trusts predicted IoU, which this model does not have. Use '
            'search="full" with fewer points_per_side.'
        )


def find_masks(
    model: PointModel,
    image: GuidedImage,
    settings: GridSettings,
    watch: Stopwatch,
    progress: Progress | None,
) -> Masks:
    """Find the masks of a grid of points that are sure, stable and distinct, the best first.

    Args:
        model: Draws the mask of one point.
        image: What the model's ``embed`` made.
        settings: Of everything mode; those of crops have no effect.
        watch: Gets the times of decoding and filtering.
        progress: Called with the points so far and all points.

    Raises:
        PromptError: ``progress`` is no function.
    """
    function_of_two_numbers(progress, "progress", PromptError)
    points = grid_points(settings.grid(0), image.frame)
    report = _silent if progress is None else progress
    report(0, len(points))
    kept: list[tuple[Rle, float, float, int]] = []
    least = np.float32(settings.stability_score_thresh)
    for index, point in enumerate(points):
        with watch("decode"):
            runs, score, stability = model.mask_of_point(
                image, point, settings.stability_score_offset
            )
        # As with SAM, a threshold of 0 filters nothing, and an empty mask, whose stability is
        # NaN, passes no other one.
        if score > settings.least_iou and (least <= 0 or np.float32(stability) >= least):
            kept.append((runs, score, stability, index))
        report(index + 1, len(points))
    with watch("postprocess"):
        masks = _masks(kept, points, image)
        masks = masks[ops.box_nms(masks.boxes, masks.scores, settings.box_nms_thresh)]
        if settings.min_mask_region_area:
            masks = without_small_regions(masks, settings)
    return masks


def _silent(_: int, __: int) -> None:
    """Report nothing."""


def _masks(
    kept: list[tuple[Rle, float, float, int]], points: NDArray[np.float64], image: GuidedImage
) -> Masks:
    """Join masks with their points."""
    prompts = np.array([index for *_, index in kept], np.int64)
    return Masks.from_rle(
        Rle.concatenate([Rle.from_lists([], image.frame.image), *(runs for runs, *_ in kept)]),
        scores=np.array([score for _, score, _, _ in kept], np.float32),
        stability=np.array([stability for _, _, stability, _ in kept], np.float32),
        prompt=prompts,
        points=points[prompts],
        search="full",
        points_decoded=len(points),
    )
