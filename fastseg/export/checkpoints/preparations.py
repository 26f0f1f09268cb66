"""Preparations: how images, prompts and masks go with weights, as their networks were trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from fastseg.artifacts.guidance import TILES, Z_SCORE, BoxPreprocessing, PointPreprocessing
from fastseg.artifacts.manifest import RITM, SAM, SPECIALIST, AnyPreprocessing
from fastseg.artifacts.preprocessing import (
    LONGEST_SIDE_AREA,
    MIN_MAX,
    STRETCH_BILINEAR,
    STRETCH_INTERPOLATED,
    STRETCH_NEAREST,
    STRETCH_PILLOW,
    STRETCH_SPLINE,
    Preprocessing,
)
from fastseg.artifacts.rules import (
    BEST,
    CORNERS_FIRST,
    DIRECT,
    DIRECT_CUBIC,
    PROBABILITIES,
    STABLE,
    TRUNCATED,
    GridDefaults,
    OutputRules,
    PromptRules,
    Rules,
)
from fastseg.export.networks import efficient_sam

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""SAM's statistics of R, G, B on the 0..255 scale."""

_NO_MEAN, _NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


_NO_PROMPT = PromptRules(points=False, boxes=False, masks=False, alternatives=False)


@dataclass(frozen=True, slots=True)
class Preparation:
    """The preprocessing of images and the rules for prompts and masks."""

    summary: str
    """In words, for errors and reports."""

    preprocessing: AnyPreprocessing
    rules: Rules | None = None
    """None for those of SAM."""

    family: str = SAM
    """Pipeline of the graphs."""

    @property
    def prompts(self) -> str:
        """The kinds of prompts that it takes, in words."""
        return (self.rules or Rules()).prompts.taken

    def without_prompts(self) -> Preparation:
        """Return the preparation of the same network, tuned to take no prompt."""
        return replace(self, rules=replace(self.rules or Rules(), prompts=_NO_PROMPT))


_BOX_ALONE = PromptRules(points=False, masks=False, alternatives=False)

PREPARATIONS: Mapping[str, Preparation] = MappingProxyType(
    {
        "sam": Preparation(
            "longest side to 1024 pixels, SAM's statistics; points, boxes, masks",
            Preprocessing(1024, MEAN, STD),
        ),
        "medsam": Preparation(
            "stretched to 1024 x 1024 pixels by a cubic spline, least to largest value as 0 to 1; "
            "boxes alone",
            Preprocessing(1024, _NO_MEAN, _NO_STD, STRETCH_SPLINE, MIN_MAX),
            Rules(_BOX_ALONE, OutputRules(DIRECT, PROBABILITIES)),
        ),
        "lite-medsam": Preparation(
            "longest side to 256 pixels by area, least to largest value as 0 to 1; boxes alone",
            Preprocessing(256, _NO_MEAN, _NO_STD, LONGEST_SIDE_AREA, MIN_MAX, patch=4),
            Rules(
                PromptRules(points=False, masks=False, alternatives=False, coordinates=TRUNCATED)
            ),
        ),
        "sam2": Preparation(
            "stretched to 1024 x 1024 pixels by a bilinear filter, SAM's statistics; points, "
            "boxes, masks",
            Preprocessing(1024, MEAN, STD, STRETCH_BILINEAR),
            Rules(
                PromptRules(layout=CORNERS_FIRST),
                OutputRules(DIRECT, single=STABLE, logit_limit=32.0),
                GridDefaults(pred_iou_thresh=0.8),
            ),
        ),
        "sam-adapter": Preparation(
            "stretched to 1024 x 1024 pixels by Pillow's bilinear filter, SAM's statistics; no "
            "prompt",
            Preprocessing(1024, MEAN, STD, STRETCH_PILLOW),
            Rules(_NO_PROMPT),
        ),
        "efficientvit-sam": Preparation(
            "longest side to 512 pixels, SAM's statistics, coordinates in SAM's square of 1024; "
            "points, boxes, masks",
            Preprocessing(512, MEAN, STD, patch=8, prompt_side=1024),
        ),
        "efficient-sam": Preparation(
            "stretched to 1024 x 1024 pixels by bilinear interpolation, SAM's statistics; points "
            "of the foreground and boxes",
            Preprocessing(1024, MEAN, STD, STRETCH_INTERPOLATED),
            Rules(
                PromptRules(masks=False, background=False, length=efficient_sam.POINTS),
                OutputRules(DIRECT_CUBIC),
            ),
        ),
        "ritm": Preparation(
            "images at their own size, SAM's statistics, from the second point on a part of 400 "
            "pixels; points alone",
            PointPreprocessing(MEAN, STD),
            Rules(
                PromptRules(boxes=False, masks=False, alternatives=False),
                everything=GridDefaults(pred_iou_thresh=0.0),
            ),
            RITM,
        ),
        "deeplab-box": Preparation(
            "stretched to 224 x 224 pixels by area, least to largest value as 0 to 1; boxes alone",
            BoxPreprocessing((224, 224)),
            Rules(_BOX_ALONE),
            SPECIALIST,
        ),
        "nnunet": Preparation(
            "images at their own size in tiles, normalised as the file's plan says; boxes alone",
            BoxPreprocessing((512, 512), TILES, Z_SCORE, Z_SCORE),
            Rules(_BOX_ALONE),
            SPECIALIST,
        ),
        "sam-hq": Preparation(
            "longest side to 1024 pixels, SAM's statistics; points, boxes, masks; of three masks "
            "the best-scored one",
            Preprocessing(1024, MEAN, STD),
            Rules(output=OutputRules(multiple=BEST)),
        ),
        "sam-med2d": Preparation(
            "stretched to 256 x 256 pixels by the nearest pixels, SAM's statistics; points, boxes, "
            "masks; of three masks the best-scored one",
            Preprocessing(256, MEAN, STD, STRETCH_NEAREST),
            Rules(output=OutputRules(multiple=BEST)),
        ),
    }
)
"""By the word of ``fastseg export --preprocess``."""
