"""Protocol ``points``: one point after the other, each in the deepest error (Mazurowski et al.)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import PromptError
from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.dataset.example import Intensity
from fastseg.evaluation.metrics import iou, points_needed
from fastseg.evaluation.prompts import deepest_point, seeded
from fastseg.evaluation.protocols.base import (
    SLOTS,
    Candidates,
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
from fastseg.inputs.numbers import whole_number
from fastseg.ops import Metric
from fastseg.timings import Stopwatch

TARGETS = (80, 85, 90)
"""IoU in percent that points are counted to."""


@dataclass(frozen=True, kw_only=True)
class Points(Protocol):
    """Algorithm 1 of Mazurowski et al.: points accumulate, each where the error is deepest.

    The first point is the deepest pixel of the object. Each further one is the deepest pixel of
    what the scored mask has wrong; pixels that are equally deep are drawn from by chance.
    """

    name: ClassVar[str] = "points"
    source: ClassVar[str] = "Mazurowski et al., arXiv 2304.10517, algorithm 1"
    headline: ClassVar[str] = "iou"

    count: int = 9
    """Points of an object."""

    slots: tuple[Slot, ...] = SLOTS
    """Masks that are scored; each has its own path of points."""

    neg_label: Literal["raw", "class"] = "raw"
    """Label 0 where the label map has no class at all (as published), or not this object's."""

    distance: Metric = "chamfer"
    """Metric of depth: that of the authors, or exact."""

    empty_error: Literal["random", "stop"] = "random"
    """After a perfect mask: any pixel by chance, or no further point."""

    def __post_init__(self) -> None:
        """Check the switches."""
        whole_number(self.count, "count", PromptError, least=1)
        for slot in self.slots:
            require(slot, SLOTS, "slot")
        require(self.neg_label, ("raw", "class"), "neg_label")
        require(self.distance, get_args(Metric), "distance")
        require(self.empty_error, ("random", "stop"), "empty_error")

    @property
    def intensity(self) -> Intensity:
        """Divide by the maximum, as the authors do."""
        return "maximum"

    def score(self, example: LoadedExample, model: PromptModel, seed: int) -> Scored:
        """Prompt all objects of an image together, a point more in each round."""
        watch = Stopwatch()
        embedding = embed(model, example.image, watch)
        paths = [
            _Path(truth, slot, self, example.name, seed)
            for truth in example.truths
            for slot in self.slots
        ]
        for _ in range(self.count):
            open_paths = [path for path in paths if path.extend()]
            # Paths of several slots are one until their masks differ.
            prompts = list(dict.fromkeys(path.prompt for path in open_paths))
            held: dict[Prompt, list[_Path]] = {prompt: [] for prompt in prompts}
            for path in open_paths:
                held[path.prompt].append(path)
            for prompt, candidates in zip(
                prompts, decode(model, embedding, prompts, watch), strict=True
            ):
                for path in held[prompt]:
                    path.take(candidates)
        rows = [path.row(example) for path in paths]
        return Scored(rows, milliseconds=spent(watch))


@dataclass(slots=True, eq=False)
class _Path:
    """The points of one object under one slot policy, so far."""

    truth: Truth
    slot: Slot
    rules: Points
    image: str
    seed: int
    points: list[tuple[int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)
    mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((1, 1), np.bool_))
    stopped: bool = False

    @property
    def prompt(self) -> Prompt:
        """All points so far."""
        return Prompt(tuple(self.points), tuple(self.labels))

    def extend(self) -> bool:
        """Add the next point; False if the path has stopped, and carries its last IoU on."""
        wrong = self.truth.mask ^ self.mask if self.points else self.truth.mask
        if not wrong.any() and self.rules.empty_error == "stop":
            self.stopped = True
        if self.stopped:
            self.ious.append(self.ious[-1])
            return False
        # Not of the slot: the same point follows wherever the masks agree.
        random = seeded(self.seed, self.image, self.truth.name, len(self.points))
        x, y = deepest_point(wrong, random, metric=self.rules.distance)
        rule = self.truth.labelled if self.rules.neg_label == "raw" else self.truth.mask
        self.points.append((x, y))
        self.labels.append(int(rule[y, x]))
        return True

    def take(self, candidates: Candidates) -> None:
        """Score the mask of the slot; the next error is that of this mask."""
        place = candidates.choose(self.slot, self.truth.mask)
        self.mask = candidates.masks[place]
        self.ious.append(iou(self.mask, self.truth.mask))
        self.chosen.append(place)
        self.predicted.append(candidates.predicted[place])

    def row(self, example: LoadedExample) -> Row:
        """Make the row of this path."""
        scores = {f"iou {number}": value for number, value in enumerate(self.ious, start=1)}
        for target in TARGETS:
            scores[f"noc{target}"] = points_needed(self.ious, target / 100, most=self.rules.count)
        return make_row(
            example,
            self.truth,
            variant="points",
            slot=self.slot,
            mask=self.mask,
            scores=scores,
            prompt=self.prompt.as_list(),
            chosen=self.chosen,
            predicted=self.predicted,
        )
