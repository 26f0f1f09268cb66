"""Protocol ``everything``: the objects that automatic mode finds without a prompt."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fastseg import ops
from fastseg.evaluation.dataset import LoadedExample
from fastseg.evaluation.metrics import dice
from fastseg.evaluation.protocols.base import Protocol, Scored, make_row, spent
from fastseg.guided.promptable import PromptModel
from fastseg.sam.grid_settings import GridSettings
from fastseg.timings import Stopwatch

RECALL_AT = (0.5, 0.75, 0.9)
"""IoU from which an object counts as found."""

_GRID = GridSettings()


@dataclass(frozen=True, kw_only=True)
class Everything(Protocol):
    """Automatic mode, and for each object the mask that fits it best, a mask for several if so."""

    name: ClassVar[str] = "everything"
    source: ClassVar[str] = "Kirillov et al., arXiv 2304.02643, automatic masks; recall by object"
    headline: ClassVar[str] = "iou"

    points_per_side: int = 32
    pred_iou_thresh: float = _GRID.pred_iou_thresh
    stability_score_thresh: float = _GRID.stability_score_thresh
    box_nms_thresh: float = _GRID.box_nms_thresh
    crop_n_layers: int = _GRID.crop_n_layers
    min_mask_region_area: int = _GRID.min_mask_region_area

    def __post_init__(self) -> None:
        """Check the switches, as automatic mode does."""
        GridSettings(**self._grid())

    def score(self, example: LoadedExample, model: PromptModel, seed: int) -> Scored:  # noqa: ARG002
        """Find everything in an image, and match the masks with its objects."""
        watch = Stopwatch()
        with watch("decode"):
            masks = model.everything(example.image, **self._grid())
        truths = ops.rle_from_array(np.stack([truth.mask for truth in example.truths]))
        ious = ops.rle_iou(truths, masks.runs)
        nothing = np.zeros(masks.size, np.bool_)
        rows = []
        for index, truth in enumerate(example.truths):
            place = int(np.argmax(ious[index])) if len(masks) else -1
            mask = masks[place].array()[0] if len(masks) else nothing
            best = float(ious[index, place]) if len(masks) else 0.0
            found = {f"recall {level:g}": float(best >= level) for level in RECALL_AT}
            rows.append(
                make_row(
                    example,
                    truth,
                    variant="everything",
                    slot="best match",
                    mask=mask,
                    scores={"iou": best, "dice": dice(mask, truth.mask), **found},
                    chosen=[place] if len(masks) else [],
                    predicted=[float(masks.scores[place])] if len(masks) else [],
                )
            )
        found_masks = {"masks an image": float(len(masks))}
        return Scored(rows, found_masks, milliseconds=spent(watch))

    def _grid(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}
