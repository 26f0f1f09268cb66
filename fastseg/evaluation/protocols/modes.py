"""Protocol ``modes``: five ways to prompt an object with several parts (Mazurowski et al.)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np

from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.dataset.example import Intensity
from fastseg.evaluation.prompts import components, deepest_point, seeded, tight_box
from fastseg.evaluation.protocols.base import (
    SLOTS,
    Candidates,
    Prompt,
    Protocol,
    Row,
    Scored,
    Slot,
    decode_any,
    embed,
    make_row,
    require,
    spent,
)
from fastseg.guided.promptable import PromptModel
from fastseg.ops import Metric
from fastseg.timings import Stopwatch

PARTS = 3
"""Components that modes 2 and 4 prompt, the largest ones."""

DESCRIPTIONS = {
    1: "a point in the largest part",
    2: "a point in each of the 3 largest parts",
    3: "a box around the largest part",
    4: "a box around each of the 3 largest parts",
    5: "a box around the whole object",
}


@dataclass(frozen=True, kw_only=True)
class Modes(Protocol):
    """The five prompt modes of Mazurowski et al.; every mode is scored against the whole object."""

    name: ClassVar[str] = "modes"
    source: ClassVar[str] = "Mazurowski et al., arXiv 2304.10517, prompt modes"
    headline: ClassVar[str] = "iou"

    slots: tuple[Slot, ...] = SLOTS
    distance: Metric = "chamfer"
    """Metric of the depth of points."""

    def __post_init__(self) -> None:
        """Check the switches."""
        for slot in self.slots:
            require(slot, SLOTS, "slot")
        require(self.distance, get_args(Metric), "distance")

    @property
    def intensity(self) -> Intensity:
        """Divide by the maximum, as the authors do."""
        return "maximum"

    def score(self, example: LoadedExample, model: PromptModel, seed: int) -> Scored:
        """Prompt all objects of an image in every mode; equal prompts are decoded once."""
        watch = Stopwatch()
        embedding = embed(model, example.image, watch)
        asked = [
            (truth, mode, prompts)
            for truth in example.truths
            for mode, prompts in self._prompts(truth, example.name, seed).items()
        ]
        wanted = [prompt for _, _, prompts in asked for prompt in prompts]
        answers = decode_any(model, embedding, wanted, watch)
        rows = [
            self._row(example, truth, mode, slot, prompts, [answers[one] for one in prompts])
            for truth, mode, prompts in asked
            for slot in self.slots
        ]
        return Scored(rows, milliseconds=spent(watch))

    def _prompts(self, truth: Truth, image: str, seed: int) -> dict[int, list[Prompt]]:
        parts = components(truth.mask)[:PARTS]
        points = tuple(
            deepest_point(part, seeded(seed, image, truth.name, place), metric=self.distance)
            for place, part in enumerate(parts)
        )
        boxes = [Prompt(box=tight_box(part)) for part in parts]
        return {
            1: [Prompt(points[:1], (1,))],
            2: [Prompt(points, (1,) * len(points))],
            3: boxes[:1],
            4: boxes,
            5: [Prompt(box=tight_box(truth.mask))],
        }

    def _row(
        self,
        example: LoadedExample,
        truth: Truth,
        mode: int,
        slot: Slot,
        prompts: Sequence[Prompt],
        answers: Sequence[Candidates],
    ) -> Row:
        """Unite the masks of several prompts slot by slot, then choose the slot."""
        united = answers[0].masks
        for answer in answers[1:]:
            united = united | answer.masks
        predicted = tuple(np.mean([answer.predicted for answer in answers], axis=0).tolist())
        candidates = Candidates(united, predicted)
        place = candidates.choose(slot, truth.mask)
        return make_row(
            example,
            truth,
            variant=f"mode {mode}",
            slot=slot,
            mask=united[place],
            prompt=[part for prompt in prompts for part in prompt.as_list()],
            chosen=[place],
            predicted=[predicted[place]],
        )
