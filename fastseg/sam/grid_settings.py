"""Settings of everything mode, and the grids of points that they describe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import ops
from fastseg.artifacts.rules import Rules
from fastseg.errors import PromptError
from fastseg.geometry import Frame
from fastseg.inputs.numbers import one_of, real_array, real_number, shown, whole_number

Search: TypeAlias = Literal["full", "coarse-to-fine"]
"""The points of a grid that are decoded: all, or those that no mask of a coarser grid covers."""

LARGEST_INTEGER = 2**63 - 1
"""Integers of settings go to kernels in 64 bits."""

LARGEST_GRID = 10_000
"""Points along each side of a grid; all of them together take 1.6 GB."""

LARGEST_NUMBER = 1e30
"""Bound on thresholds, as for those of ``ops.binarise``."""

_REAL = (
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_nms_thresh",
    "crop_overlap_ratio",
)


@dataclass(frozen=True, slots=True)
class GridSettings:
    """Settings of ``Sam.everything``, which explains each, with SAM's names and defaults."""

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[ArrayLike] | None = None
    min_mask_region_area: int = 0
    search: Search = "full"
    max_device_memory: int | None = None

    def __post_init__(self) -> None:
        """Check every setting that does not depend on the image.

        Raises:
            PromptError: A setting is out of range, both or neither kind of grid is given, or a
                coarse search is wanted of a grid that is not regular.
        """
        self._check_kind()
        at_least = {
            "points_per_batch": 1,
            "crop_n_layers": 0,
            "crop_n_points_downscale_factor": 1,
            "min_mask_region_area": 0,
        }
        for name in ("points_per_side", "max_device_memory"):
            if getattr(self, name) is not None:
                at_least[name] = 1
        for name, least in at_least.items():
            value = whole_number(getattr(self, name), name, PromptError, least=least)
            if value > LARGEST_INTEGER:
                raise PromptError(f"{name} must be at most {LARGEST_INTEGER}, not {shown(value)}.")
            object.__setattr__(self, name, value)  # one of NumPy's would overflow in its 8 bits
        if self.points_per_side is not None and self.points_per_side > LARGEST_GRID:
            raise PromptError(
                f"points_per_side must be at most {LARGEST_GRID}, not {shown(self.points_per_side)}"
            )
        for name in _REAL:
            number = real_number(getattr(self, name), name, PromptError)
            if abs(number) > LARGEST_NUMBER:
                raise PromptError(
                    f"{name} must lie within plus and minus {LARGEST_NUMBER:g}, as masks are "
                    f"compared in float32, and is {number:g}."
                )
            object.__setattr__(self, name, number)  # a decimal or a tensor becomes a float
        if not 0 <= self.crop_overlap_ratio < 1:
            raise PromptError(
                f"crop_overlap_ratio must be in [0, 1), not {self.crop_overlap_ratio!r}."
            )

    def _check_kind(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise PromptError("Give either points_per_side or point_grids, and not both.")
        one_of(self.search, get_args(Search), "search", PromptError)
        if self.search != "full" and self.point_grids is not None:
            raise PromptError(
                f'search="{self.search}" takes a regular grid: give points_per_side instead of '
                'point_grids, or search="full".'
            )

    @property
    def least_iou(self) -> float:
        """Bound that the predicted IoU has to exceed; like SAM, no bound at a threshold of 0."""
        return self.pred_iou_thresh if self.pred_iou_thresh > 0 else -math.inf

    @property
    def sure_iou(self) -> float:
        """Predicted IoU above which a coarse-to-fine search trusts a mask up to its border."""
        return (1 + self.pred_iou_thresh) / 2

    def per_side(self, layer: int) -> int:
        """Return the points along each side of the regular grid of crop layer ``layer``."""
        return int((self.points_per_side or 0) / self.crop_n_points_downscale_factor**layer)

    def grid(self, layer: int) -> NDArray[np.float64]:
        """Return the points of crop layer ``layer``: (n, 2) in 0..1, x before y.

        Raises:
            PromptError: ``point_grids`` has no grid for this layer, or it is malformed.
        """
        if self.point_grids is None:
            per_side = self.per_side(layer)
            return ops.point_grid(per_side) if per_side else np.zeros((0, 2))
        if layer >= len(self.point_grids):
            raise PromptError(
                f"point_grids has {len(self.point_grids)} grids, but crop_n_layers="
                f"{self.crop_n_layers} needs {self.crop_n_layers + 1}."
            )
        grid = real_array(self.point_grids[layer], f"point_grids[{layer}]", PromptError)
        if grid.ndim != 2 or grid.shape[1] != 2 or not ((grid >= 0) & (grid <= 1)).all():
            raise PromptError(f"point_grids[{layer}] must be (n, 2) with values in 0..1.")
        return grid


SETTINGS = tuple(field.name for field in fields(GridSettings))
"""Names of the settings, in order."""


def resolved_settings(given: Mapping[str, Any], rules: Rules) -> GridSettings:
    """Make settings of arguments, some of which may be None for the model's own thresholds.

    Raises:
        PromptError: A setting is out of range, or the model takes no points.
    """
    if not rules.prompts.any:
        raise PromptError(
            "This model takes no prompt, and everything() asks it for masks at points. Use "
            "segment(image), which draws its one mask."
        )
    if not rules.prompts.points:
        raise PromptError(
            "This model was not trained for points, which everything() asks it. It takes "
            f"{rules.prompts.taken}."
        )
    own = asdict(rules.everything)
    asked: dict[str, Any] = {**given}
    asked |= {name: own[name] for name in own if asked.get(name) is None}
    return GridSettings(**asked)


def grid_points(grid: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    """Place points (n, 2) in 0..1 of a crop in the pixels of the whole image."""
    x0, y0, _, _ = frame.crop_box
    height, width = frame.size
    points: NDArray[np.float64] = grid * [width, height] + [x0, y0]
    return points
