"""Protocol ``boxes``: a box from the truth with a margin, and scores of the outline (MedSAM)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import MaskError, PromptError
from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.metrics import dice, iou, surface_distances
from fastseg.evaluation.prompts import Box, ellipse_in, seeded, tight_box
from fastseg.evaluation.protocols.base import (
    SLOTS,
    Prompt,
    Protocol,
    Row,
    Scored,
    Slot,
    decode,
    embed,
    make_row,
    require,
    spent,
)
from fastseg.guided.promptable import PromptModel
from fastseg.timings import Stopwatch

ELLIPSE = "ellipse in the box"
"""Variant without a model: what the box alone tells."""

Overlap = Literal["score", "later", "drop_overlap"]


@dataclass(frozen=True, kw_only=True)
class Boxes(Protocol):
    """A box around every object, with IoU, Dice, surface Dice and HD95 of the answer."""

    name: ClassVar[str] = "boxes"
    source: ClassVar[str] = "Ma et al. (MedSAM), arXiv 2304.12306; Ferreira and Arnaout 2311.04847"
    headline: ClassVar[str] = "iou"

    margins: tuple[float, ...] = (0.0,)
    """Distances from the object to the box."""

    margin_unit: Literal["image", "model"] = "image"
    """Pixels of the image, or of the model's square: MedSAM's 20 pixels are of 1024."""

    jitter: float = 0.0
    """Each side moves by up to this many pixels of the same unit, drawn uniformly."""

    slots: tuple[Slot, ...] = ("argmax", "first", "oracle")
    tolerance: float = 2.0
    """Distance of outlines that surface Dice forgives."""

    unit: Literal["px", "mm"] = "px"
    """Unit of the tolerance and of HD95; mm needs the size of a pixel."""

    label_conflict: Overlap = "score"
    """Pixels that several objects of an image claim: every mask is scored as it is, or the later
    object has them, or none."""

    def __post_init__(self) -> None:
        """Check the switches."""
        for slot in self.slots:
            require(slot, SLOTS, "slot")
        require(self.margin_unit, ("image", "model"), "margin_unit")
        require(self.unit, ("px", "mm"), "unit")
        require(self.label_conflict, ("score", "later", "drop_overlap"), "label_conflict")
        numbers = (*self.margins, self.jitter, self.tolerance)
        if not self.margins or not all(0 <= one < math.inf for one in numbers):
            raise PromptError(f"margins, jitter and tolerance must be 0 or more, not {numbers}.")

    def score(self, example: LoadedExample, model: PromptModel, seed: int) -> Scored:
        """Prompt all objects of an image by their boxes.

        Raises:
            MaskError: Distances in mm are asked of an image that states no size of its pixels.
        """
        spacing = self._spacing(example)
        watch = Stopwatch()
        embedding = embed(model, example.image, watch)
        scale = self._scale(example, model)
        rows: list[Row] = []
        for margin in self.margins:
            boxes = [
                self._box(truth, margin * scale, scale, example, seed) for truth in example.truths
            ]
            prompts = [Prompt(box=box) for box in boxes]
            answers = list(decode(model, embedding, prompts, watch))
            for slot in self.slots:
                places = [
                    one.choose(slot, truth.mask)
                    for one, truth in zip(answers, example.truths, strict=True)
                ]
                masks = [one.masks[place] for one, place in zip(answers, places, strict=True)]
                masks = resolve(masks, self.label_conflict)
                for truth, mask, prompt, one, place in zip(
                    example.truths, masks, prompts, answers, places, strict=True
                ):
                    rows.append(
                        make_row(
                            example,
                            truth,
                            variant=f"margin {margin:g}",
                            slot=slot,
                            mask=mask,
                            scores=self._scores(mask, truth, spacing),
                            prompt=prompt.as_list(),
                            chosen=[place],
                            predicted=[one.predicted[place]],
                        )
                    )
        for truth in example.truths:
            box = tight_box(truth.mask)
            mask = ellipse_in(box, truth.mask.shape)
            scores = self._scores(mask, truth, spacing)
            rows.append(
                make_row(
                    example,
                    truth,
                    variant=ELLIPSE,
                    slot="none",
                    mask=mask,
                    scores=scores,
                    prompt=[list(box)],
                )
            )
        return Scored(rows, milliseconds=spent(watch))

    def _scale(self, example: LoadedExample, model: PromptModel) -> float:
        """Return the pixels of the image in one of the unit of margins."""
        square = model.manifest.square
        if self.margin_unit == "image" or square is None:
            return 1.0
        return float(max(example.image.shape[:2]) / square)

    def _spacing(self, example: LoadedExample) -> tuple[float, float]:
        if self.unit == "px":
            return 1.0, 1.0
        if example.spacing is None:
            raise MaskError(
                f"{example.name} states no size of its pixels, and distances in mm need it. Give "
                "--spacing HEIGHT WIDTH in mm, or --unit px."
            )
        return example.spacing

    def _box(
        self, truth: Truth, margin: float, scale: float, example: LoadedExample, seed: int
    ) -> Box:
        box = tight_box(truth.mask, margin)
        if not self.jitter:
            return box
        random = seeded(seed, example.name, truth.name, "jitter")
        x0, y0, x1, y1 = np.array(box) + random.uniform(-self.jitter, self.jitter, 4) * scale
        height, width = truth.mask.shape
        return (
            float(np.clip(min(x0, x1), 0, width - 1)),
            float(np.clip(min(y0, y1), 0, height - 1)),
            float(np.clip(max(x0, x1), 0, width - 1)),
            float(np.clip(max(y0, y1), 0, height - 1)),
        )

    def _scores(
        self, mask: NDArray[np.bool_], truth: Truth, spacing: tuple[float, float]
    ) -> Mapping[str, float]:
        distances = surface_distances(mask, truth.mask, spacing=spacing)
        return {
            "iou": iou(mask, truth.mask),
            "dice": dice(mask, truth.mask),
            f"surface dice {self.tolerance:g} {self.unit}": distances.dice(self.tolerance),
            f"hd95 {self.unit}": distances.hausdorff(95),
        }


def resolve(masks: list[NDArray[np.bool_]], rule: Overlap) -> list[NDArray[np.bool_]]:
    """Share out the pixels that several masks of an image claim, as ``Boxes.label_conflict``."""
    if rule == "score" or len(masks) < 2:
        return masks
    claims = np.sum(masks, axis=0)
    if rule == "drop_overlap":
        return [mask & (claims == 1) for mask in masks]
    free = np.ones(masks[0].shape, np.bool_)
    kept = []
    for mask in reversed(masks):
        kept.append(mask & free)
        free &= ~mask
    return kept[::-1]
