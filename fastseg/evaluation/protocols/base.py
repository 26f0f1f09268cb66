"""Base of the protocols: what is asked of a model for an example, and the rows that come of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.errors import PromptError
from fastseg.evaluation.dataset import LoadedExample, Truth
from fastseg.evaluation.dataset.example import Intensity
from fastseg.evaluation.metrics import dice, iou
from fastseg.guided.promptable import PromptModel
from fastseg.timings import Stopwatch

Slot: TypeAlias = Literal["first", "argmax", "oracle"]
"""The mask of the three that is scored: the decoder's first, the best by its own score, the best
against the truth."""

SLOTS: tuple[Slot, ...] = get_args(Slot)

PROMPTS_AT_ONCE = 32
"""Prompts whose logits are held at once; 256 KB a mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Scores of one object under one condition."""

    image: str
    domain: str
    task: str
    object: str
    pixels: int
    """Pixels of the truth."""

    variant: str
    """Prompt, margin or mode, in words; one protocol may try several."""

    slot: str
    prompt: Sequence[Any]
    """Prompts in the order they were given: ``[x, y, label]`` of a point, ``[x0, y0, x1, y1]``."""

    chosen: Sequence[int]
    """Place of the scored mask among the three, for each prompt."""

    predicted: Sequence[float]
    """Score that the model gave each chosen mask."""

    scores: Mapping[str, float]
    mask: str
    """The last scored mask, as COCO's string of run lengths."""

    @property
    def condition(self) -> tuple[str, str]:
        """Variant and slot: rows of one condition are averaged."""
        return self.variant, self.slot

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(slots=True)
class Scored:
    """Everything that came of one example."""

    rows: list[Row] = field(default_factory=list)
    image_scores: dict[str, float] = field(default_factory=dict)
    """Scores of the image as a whole, such as its number of masks."""

    left_out: tuple[str, ...] = ()
    """Objects without a pixel, which no score counts."""

    milliseconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """One way to judge a model: prompts from truth, and scores of the masks. Fields are switches.

    Raises:
        PromptError: A switch has a value that it does not know.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    """The study whose protocol it is."""

    headline: ClassVar[str]
    """The score that stands in figures."""

    takes_prompts: ClassVar[bool] = True
    """True if the models must take prompts."""

    def settings(self) -> dict[str, Any]:
        """Return the switches, ready for JSON."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}

    @property
    def intensity(self) -> Intensity:
        """Rule by which levels become 0..255."""
        return "file"

    @abstractmethod
    def score(self, example: LoadedExample, model: PromptModel, seed: int) -> Scored:
        """Prompt the model for every object of an example, and score the masks.

        The result depends on the example, the model and the seed alone.
        """


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of the decoder: a box, or points with their labels."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None

    def as_list(self) -> list[Any]:
        """Return it in the form of ``Row.prompt``."""
        if self.box is not None:
            return [list(self.box)]
        return [[x, y, label] for (x, y), label in zip(self.points, self.labels, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The masks that answer a prompt, three in SAM."""

    masks: NDArray[np.bool_]  # (n, H, W)
    predicted: tuple[float, ...]

    def choose(self, slot: Slot, truth: NDArray[np.bool_]) -> int:
        """Return the place of the mask that a slot policy scores."""
        if slot == "first":
            return 0
        if slot == "argmax":
            return int(np.argmax(self.predicted))
        return int(np.argmax([iou(mask, truth) for mask in self.masks]))


def decode(
    model: PromptModel, embedding: Any, prompts: Sequence[Prompt], watch: Stopwatch
) -> Iterator[Candidates]:
    """Decode prompts, many at once, and yield the masks of each in their order.

    All prompts must be of one kind, and point prompts have equally many points.
    """
    for start in range(0, len(prompts), PROMPTS_AT_ONCE):
        part = prompts[start : start + PROMPTS_AT_ONCE]
        with watch("decode"):
            masks = model.segment(embedding, **_arguments(part))
        each = len(masks) // len(part)  # three, but for networks that give one
        for place in range(len(part)):
            own = masks[each * place : each * (place + 1)]
            yield Candidates(own.array(), tuple(own.scores.tolist()))


def decode_any(
    model: PromptModel, embedding: Any, prompts: Sequence[Prompt], watch: Stopwatch
) -> dict[Prompt, Candidates]:
    """Decode prompts of any kinds; equal ones are decoded once."""
    groups: dict[tuple[bool, int], list[Prompt]] = {}
    for prompt in dict.fromkeys(prompts):
        groups.setdefault((prompt.box is not None, len(prompt.points)), []).append(prompt)
    answers: dict[Prompt, Candidates] = {}
    for group in groups.values():
        answers |= zip(group, decode(model, embedding, group, watch), strict=True)
    return answers


def embed(model: PromptModel, image: NDArray[np.uint8], watch: Stopwatch) -> Any:
    """Encode an image, or prepare it, once for all of its prompts."""
    with watch("encode"):
        return model.embed(image)


def make_row(
    example: LoadedExample,
    truth: Truth,
    *,
    variant: str,
    slot: str,
    mask: NDArray[np.bool_],
    scores: Mapping[str, float] | None = None,
    prompt: Sequence[Any] = (),
    chosen: Sequence[int] = (),
    predicted: Sequence[float] = (),
) -> Row:
    """Make the row of an object from its last scored mask; IoU and Dice unless scores are given."""
    if scores is None:
        scores = {"iou": iou(mask, truth.mask), "dice": dice(mask, truth.mask)}
    return Row(
        image=example.name,
        domain=example.domain,
        task=truth.task,
        object=truth.name,
        pixels=int(np.count_nonzero(truth.mask)),
        variant=variant,
        slot=slot,
        prompt=list(prompt),
        chosen=list(chosen),
        predicted=[round(float(one), 6) for one in predicted],
        scores=dict(scores),
        mask=ops.rle_to_strings(ops.rle_from_array(mask[None]))[0].decode("ascii"),
    )


def require(value: object, allowed: Sequence[str], what: str) -> None:
    """Refuse a switch that is not one of its words.

    Raises:
        PromptError: It is not.
    """
    if value not in allowed:
        raise PromptError(f"{what} must be one of {', '.join(allowed)}, not {value!r}.")


def spent(watch: Stopwatch) -> dict[str, float]:
    """Return the milliseconds of encoder and decoder, prompts and masks included."""
    timings = watch.timings()
    return {"encode": timings.encode, "decode": timings.decode}


def _arguments(prompts: Sequence[Prompt]) -> dict[str, Any]:
    boxes = [prompt.box for prompt in prompts if prompt.box is not None]
    if boxes:
        return {"boxes": np.array(boxes, np.float64)}
    points = np.array([prompt.points for prompt in prompts], np.float64)
    return {"points": points, "labels": np.array([prompt.labels for prompt in prompts], np.int32)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
