"""Protocol ``centroid``: one point in the middle of mass of each object (Shi et al.)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.prompts import Rounding, centroid, components
from fastseg.evaluation.protocols.base import (
    SLOTS,
    Prompt,
    Protocol,
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


@dataclass(frozen=True, kw_only=True)
class Centroid(Protocol):
    """One foreground point at the centroid, also where that lies outside of the object."""

    name: ClassVar[str] = "centroid"
    source: ClassVar[str] = "Shi et al., arXiv 2304.12637"
    headline: ClassVar[str] = "dice"

    slots: tuple[Slot, ...] = ("argmax", "first", "oracle")
    instance: Literal["class_mask", "component"] = "class_mask"
    """Objects that get a point: the whole class mask, or each connected component of it."""

    centroid_round: Rounding = "nearest"

    def __post_init__(self) -> None:
        """Check the switches."""
        for slot in self.slots:
            require(slot, SLOTS, "slot")
        require(self.instance, ("class_mask", "component"), "instance")
        require(self.centroid_round, get_args(Rounding), "centroid_round")

    def score(self, example: LoadedExample, model: PromptModel, seed: int) -> Scored:  # noqa: ARG002
        """Prompt all objects of an image together."""
        watch = Stopwatch()
        embedding = embed(model, example.image, watch)
        truths = [part for truth in example.truths for part in self._instances(truth)]
        prompts = [
            Prompt((centroid(truth.mask, rounding=self.centroid_round),), (1,)) for truth in truths
        ]
        rows = []
        answers = decode(model, embedding, prompts, watch)
        for truth, prompt, candidates in zip(truths, prompts, answers, strict=True):
            for slot in self.slots:
                place = candidates.choose(slot, truth.mask)
                rows.append(
                    make_row(
                        example,
                        truth,
                        variant="centroid",
                        slot=slot,
                        mask=candidates.masks[place],
                        prompt=prompt.as_list(),
                        chosen=[place],
                        predicted=[candidates.predicted[place]],
                    )
                )
        return Scored(rows, milliseconds=spent(watch))

    def _instances(self, truth: Truth) -> list[Truth]:
        if self.instance == "class_mask":
            return [truth]
        return [
            Truth(truth.task, f"{truth.name} part {number}", part, truth.labelled)
            for number, part in enumerate(components(truth.mask), start=1)
        ]
