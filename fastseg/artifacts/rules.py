"""Rules of a promptable model: the prompts that it takes, and how its logits become masks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from fastseg.artifacts.json_fields import JsonFields
from fastseg.geometry import Frame

LONGEST = 1024
"""Most points that a prompt may be filled up to."""

CORNERS_LAST = "points_corners"
"""Points, then the corners of a box; one padding point where there is no box (SAM)."""

CORNERS_FIRST = "corners_points_padding"
"""The corners of a box, then points, and always one padding point (SAM 2)."""

EXACT, TRUNCATED = "exact", "truncated"
"""Coordinates in the square: as they are, or cut to whole pixels (LiteMedSAM)."""

THROUGH_SQUARE = "through_square"
"""Logits are enlarged to the square, cropped, and resized to the image (SAM)."""

DIRECT = "direct"
"""Logits are resized to the image in one step (SAM 2, MedSAM)."""

DIRECT_CUBIC = "direct_cubic"
"""Logits are resized to the image in one step by cubic interpolation (EfficientSAM)."""

LOGITS, PROBABILITIES = "logits", "probabilities"
"""The values that are interpolated: logits, or their sigmoids (MedSAM)."""

FIRST = "first"
"""The single mask of a prompt is slot 0."""

STABLE = "stable_or_best"
"""The single mask is slot 0 if it is stable, and else the best-scored alternative (SAM 2)."""

ALL, BEST = "all", "best"
"""The masks of a prompt where several are asked for: three alternatives (SAM), or the best-scored
of them alone (SAM-HQ, SAM-Med2D)."""


@dataclass(frozen=True, slots=True)
class PromptRules:
    """The prompts that a model takes."""

    points: bool = True
    boxes: bool = True
    masks: bool = True

    alternatives: bool = True
    """True if the model draws three alternatives for a prompt, beside the single mask."""

    layout: str = CORNERS_LAST
    coordinates: str = EXACT

    background: bool = True
    """True if points may have label 0, the background."""

    length: int = 0
    """Points of every prompt, corners included, filled up by padding; 0 for as many as there are.
    """

    @property
    def any(self) -> bool:
        """False for a model that segments an image without a prompt."""
        return self.points or self.boxes or self.masks

    @property
    def taken(self) -> str:
        """The kinds of prompts in words, ``"points, boxes, masks"`` or ``"no prompt"``."""
        kinds = {"points": self.points, "boxes": self.boxes, "masks": self.masks}
        return ", ".join(kind for kind, taken in kinds.items() if taken) or "no prompt"


@dataclass(frozen=True, slots=True)
class OutputRules:
    """The way from low-resolution logits to masks."""

    resize: str = THROUGH_SQUARE
    interpolate: str = LOGITS
    single: str = FIRST
    multiple: str = ALL

    logit_limit: float = math.inf
    """Bound on the logits that a mask keeps for a further prompt; infinite for none."""

    def frame(self, frame: Frame, mask_side: int) -> Frame:
        """Return the frame that the kernel draws logits of this side into."""
        if self.resize == DIRECT:
            # A square of the logits' own size: the first of the kernel's two steps does nothing.
            return Frame(frame.image, mask_side, frame.crop, stretched=True)
        return frame


@dataclass(frozen=True, slots=True)
class GridDefaults:
    """The defaults of everything mode that depend on a model's scores."""

    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a promptable model; those of SAM where nothing is stated."""

    prompts: PromptRules = field(default_factory=PromptRules)
    output: OutputRules = field(default_factory=OutputRules)
    everything: GridDefaults = field(default_factory=GridDefaults)

    def as_dict(self) -> dict[str, object]:
        """Return the rules as ``model.json`` holds them, which has no infinity."""
        limit = self.output.logit_limit
        return {
            "prompts": {name: getattr(self.prompts, name) for name in _names(PromptRules)},
            "output": {
                **{name: getattr(self.output, name) for name in _names(OutputRules)},
                "logit_limit": limit if math.isfinite(limit) else None,
            },
            "everything": {name: getattr(self.everything, name) for name in _names(GridDefaults)},
        }


def _names(kind: type[PromptRules | OutputRules | GridDefaults]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def read_rules(document: JsonFields) -> Rules:
    """Read the rules of a model folder.

    Raises:
        ModelFolderError: A field is of the wrong type or out of range, or a word is not known.
    """
    prompts, output, grid = (
        JsonFields(document.get(name, dict, {}), f"rules {name}")
        for name in ("prompts", "output", "everything")
    )
    kinds = {name: prompts.get(name, bool, True) for name in ("points", "boxes", "masks")}
    return Rules(
        PromptRules(
            **kinds,
            alternatives=prompts.get("alternatives", bool, True),
            layout=prompts.word(
                "layout", "layout of prompts", (CORNERS_LAST, CORNERS_FIRST), CORNERS_LAST
            ),
            coordinates=prompts.word("coordinates", "coordinates", (EXACT, TRUNCATED), EXACT),
            background=prompts.get("background", bool, True),
            length=_length(prompts),
        ),
        OutputRules(
            resize=output.word(
                "resize", "resizing", (THROUGH_SQUARE, DIRECT, DIRECT_CUBIC), THROUGH_SQUARE
            ),
            interpolate=output.word("interpolate", "values", (LOGITS, PROBABILITIES), LOGITS),
            single=output.word("single", "single mask", (FIRST, STABLE), FIRST),
            multiple=output.word("multiple", "several masks", (ALL, BEST), ALL),
            logit_limit=_limit(output),
        ),
        GridDefaults(
            pred_iou_thresh=_number(grid, "pred_iou_thresh", 0.88),
            stability_score_thresh=_number(grid, "stability_score_thresh", 0.95),
        ),
    )


def _length(document: JsonFields) -> int:
    length = document.get("length", int, 0)
    if not 0 <= length <= LONGEST:
        document.refuse(f"length must lie in 0..{LONGEST}, and is {length}")
    return length


def _limit(document: JsonFields) -> float:
    if document.document.get("logit_limit") is None:
        return math.inf
    limit = _number(document, "logit_limit", math.inf)
    if limit <= 0:
        document.refuse(f"logit_limit must be positive, not {limit}")
    return limit


def _number(document: JsonFields, name: str, default: float) -> float:
    value = document.document.get(name, default)
    if type(value) not in (int, float) or (name in document.document and not math.isfinite(value)):
        document.refuse(f"{name} must be a finite number, not {value!r}")
    return float(value)
