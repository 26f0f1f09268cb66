"""Protocol ``phases``: points x resolution x aggregation over the phases of a case (Hu et al.)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.errors import PromptError
from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.metrics import dice
from fastseg.evaluation.prompts import random_points, seeded
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
from fastseg.inputs.numbers import whole_number
from fastseg.timings import Stopwatch

LARGEST_RESOLUTION = 4096

Aggregation = Literal["avg", "max"]
_AGGREGATIONS: tuple[Aggregation, ...] = ("avg", "max")


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """The scored mask of one object in one phase, at the resolution of the run."""

    truth: Truth
    mask: NDArray[np.bool_]
    prompt: Prompt
    place: int
    predicted: float


@dataclass(frozen=True, slots=True, eq=False)
class _Resized:
    """One phase at the resolution of the run."""

    domain: str
    image: NDArray[np.uint8]  # (R, R, 3)
    truths: tuple[Truth, ...]
    native: tuple[Truth, ...]
    """The same objects in the size of the file."""


@dataclass(frozen=True, kw_only=True)
class Phases(Protocol):
    """T(P, R, M) of Hu et al.: P points, images of R x R pixels, M over the phases of a case.

    Points are foreground pixels, drawn once at the size of the file and scaled; fewer are the
    first of more. A case is that of a CSV of pairs; an image without one is its only phase.
    """

    name: ClassVar[str] = "phases"
    source: ClassVar[str] = "Hu et al., arXiv 2304.08506"
    headline: ClassVar[str] = "dice"

    points: tuple[int, ...] = (1, 5, 10, 20)
    resolutions: tuple[int, ...] = (224, 512, 1024)
    slots: tuple[Slot, ...] = ("oracle",)

    def __post_init__(self) -> None:
        """Check the switches."""
        for slot in self.slots:
            require(slot, SLOTS, "slot")
        for count in (*self.points, *self.resolutions):
            whole_number(count, "points and resolutions", PromptError, least=1)
        if not self.points or not self.resolutions or max(self.resolutions) > LARGEST_RESOLUTION:
            raise PromptError(
                f"points and resolutions must not be empty, nor resolutions above "
                f"{LARGEST_RESOLUTION}: {self.points} and {self.resolutions}."
            )

    def score(self, example: LoadedExample, model: PromptModel, seed: int) -> Scored:
        """Prompt every object of every phase in each setting, and aggregate over the phases."""
        phases = example.phases or (example,)
        watch = Stopwatch()
        rows: list[Row] = []
        for side in self.resolutions:
            resized = [_resized(phase, side) for phase in phases]
            embeddings = [embed(model, phase.image, watch) for phase in resized]
            for count in self.points:
                asked = [self._asked(phase, count, side, example.name, seed) for phase in resized]
                answers = [
                    decode_any(model, embedding, [prompt for _, prompt in own], watch)
                    for embedding, own in zip(embeddings, asked, strict=True)
                ]
                for slot in self.slots:
                    held: dict[str, list[_Answer]] = {}
                    for own, found in zip(asked, answers, strict=True):
                        for truth, prompt in own:
                            answer = _answer(truth, prompt, found[prompt], slot)
                            held.setdefault(truth.name, []).append(answer)
                    for together in held.values():
                        rows += _aggregated(example, together, f"P {count}, R {side}", slot)
        return Scored(rows, milliseconds=spent(watch))

    def _asked(
        self, phase: _Resized, count: int, side: int, case: str, seed: int
    ) -> list[tuple[Truth, Prompt]]:
        """Pair the objects that are left at this resolution with their prompts."""
        return [
            (small, self._prompt(truth, count, side, phase.domain, case, seed))
            for truth, small in zip(phase.native, phase.truths, strict=True)
            if small.mask.any()
        ]

    def _prompt(
        self, truth: Truth, count: int, side: int, phase: str, case: str, seed: int
    ) -> Prompt:
        random = seeded(seed, case, phase, truth.name)
        drawn = random_points(truth.mask, max(self.points), random)[:count]
        height, width = truth.mask.shape
        scaled = tuple(
            (float((x + 0.5) * side / width - 0.5), float((y + 0.5) * side / height - 0.5))
            for x, y in drawn
        )
        return Prompt(tuple((max(x, 0.0), max(y, 0.0)) for x, y in scaled), (1,) * len(scaled))


def _aggregated(
    example: LoadedExample, answers: Sequence[_Answer], variant: str, slot: Slot
) -> Iterator[Row]:
    """Yield a row for each aggregation: over the scores of the phases, and over their masks.

    Masks are averaged pixel by pixel and kept from 0.5 on, or united; so are the truths.
    """
    scores = [dice(answer.mask, answer.truth.mask) for answer in answers]
    masks = np.stack([answer.mask for answer in answers])
    truths = np.stack([answer.truth.mask for answer in answers])
    for how in _AGGREGATIONS:
        least = 0.5 if how == "avg" else 1e-9
        mask, truth = (stack.mean(axis=0) >= least for stack in (masks, truths))
        by_score = float(np.mean(scores) if how == "avg" else np.max(scores))
        yield make_row(
            example,
            answers[0].truth,
            variant=f"{variant}, {how}",
            slot=slot,
            mask=mask,
            scores={"dice": by_score, "dice of masks": dice(mask, truth)},
            prompt=[part for answer in answers for part in answer.prompt.as_list()],
            chosen=[answer.place for answer in answers],
            predicted=[answer.predicted for answer in answers],
        )


def _answer(truth: Truth, prompt: Prompt, candidates: Candidates, slot: Slot) -> _Answer:
    place = candidates.choose(slot, truth.mask)
    return _Answer(truth, candidates.masks[place], prompt, place, candidates.predicted[place])


def _resized(phase: LoadedExample, side: int) -> _Resized:
    """Resize an image to a square, and its truths to the nearest pixels."""
    image = Image.fromarray(phase.image).resize((side, side), Image.Resampling.BILINEAR)
    height, width = phase.image.shape[:2]
    rows = ((np.arange(side) + 0.5) * height / side).astype(np.intp)
    columns = ((np.arange(side) + 0.5) * width / side).astype(np.intp)
    grid = np.ix_(rows, columns)
    truths = tuple(
        replace(truth, mask=truth.mask[grid], labelled=truth.labelled[grid])
        for truth in phase.truths
    )
    return _Resized(phase.domain, np.asarray(image), truths, phase.truths)
