"""One model run in two ways on the same pictures and prompts: how far apart are the answers?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import SAM, UNET, Manifest
from fastseg.backends.base import Backend
from fastseg.errors import BackendError, ParityError
from fastseg.inference.sessions import Choice, PreopenedSessions, Sessions
from fastseg.validation import sectors, synthetic
from fastseg.validation.parity import Difference, Table, compare_arrays, compare_masks, worst
from fastseg.validation.probes import SAMPLES, Answer, Question, answer, answer_all, ask

REFERENCE = Choice(device="cpu", backend="onnxruntime", precision="fp32")
"""What a gate measures against."""

MEAN_IOU = {SAM: 0.99, UNET: 0.995}
"""By family, the mean mask IoU with the float32 masks that a reduced precision must reach."""

COUNT_CHANGE = 0.05
"""By what part a reduced precision may change the number of masks that a pipeline would keep."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is run: a backend (or ``"torch"``) and a precision."""

    backend: str
    precision: str

    @classmethod
    def parse(cls, text: str) -> Way:
        """Read ``"onnxruntime:fp32"``; without a precision it is ``"auto"``.

        Raises:
            BackendError: There is more than one colon, or nothing before it.
        """
        backend, _, precision = text.partition(":")
        if not backend or ":" in precision:
            raise BackendError(f"{text!r} is not BACKEND:PRECISION; onnxruntime:fp32 is one")
        return cls(backend, precision or "auto")

    def __str__(self) -> str:
        """As it is parsed."""
        return f"{self.backend}:{self.precision}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far apart two ways may be; what is None does not matter."""

    max_relative: float | None = None
    """Largest relative difference of any tensor."""

    min_iou: float | None = None
    """IoU of the worst mask with its counterpart."""

    mean_iou: float | None = None
    """Mean IoU over all masks."""

    count_change: float | None = None
    """By what part the number of masks that a pipeline would keep may change."""

    @classmethod
    def between(cls, family: str, precisions: Iterable[str]) -> Limits:
        """What is asked of two precisions: tensor by tensor in float32, else of the masks alone."""
        if set(precisions) == {"fp32"}:
            return cls(max_relative=1e-4, min_iou=0.99)
        return cls.of_masks(family)

    @classmethod
    def of_masks(cls, family: str) -> Limits:
        """What is asked of whatever may take the place of float32: the same masks, as many."""
        return cls(mean_iou=MEAN_IOU[family], count_change=COUNT_CHANGE)

    def as_dict(self) -> dict[str, float]:
        """Those that matter, ready for JSON."""
        given = {
            "max_relative": self.max_relative,
            "min_iou": self.min_iou,
            "mean_iou": self.mean_iou,
            "count_change": self.count_change,
        }
        return {name: limit for name, limit in given.items() if limit is not None}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far the answers to the same questions are apart."""

    table: Table
    """A row for each tensor and, last, one for the masks: the worst of all pictures, and the mean
    IoU. What graphs hand to each other has rows where both ways lay it out alike."""

    kept: tuple[int, int]
    """How many masks a pipeline would keep of either; see ``Answer.kept``."""

    pictures: int
    masks: int
    """How many were compared."""

    kept_iou: tuple[float, float] | None = None
    """Least and mean IoU of those masks that a pipeline would keep of what is measured against,
    with their counterparts; None if it would keep none."""

    @property
    def of_masks(self) -> Difference:
        """The row of the masks."""
        return self.table.rows[-1]

    @property
    def count_change(self) -> float:
        """By what part of the expected number the number of masks that would be kept differs."""
        expected, actual = self.kept
        return abs(actual - expected) / max(expected, 1)

    def within(self, limits: Limits) -> bool:
        """Whether the answers are close enough."""
        rows, masks = self.table.rows[:-1], self.of_masks
        return all(
            (
                limits.max_relative is None or all(row.within(limits.max_relative) for row in rows),
                limits.min_iou is None or (masks.mask_iou_min or 0.0) >= limits.min_iou,
                limits.mean_iou is None or (masks.mask_iou_mean or 0.0) >= limits.mean_iou,
                limits.count_change is None or self.count_change <= limits.count_change,
            )
        )

    def told(self, limits: Limits) -> str:
        """In words: the table, the number of masks, and what was asked for."""
        asked = ", ".join(f"{name} {limit:g}" for name, limit in limits.as_dict().items())
        ious = ""
        if self.kept_iou:
            least, mean = self.kept_iou
            ious = f" (mean IoU of the {self.kept[0]} {mean:.6f}, least {least:.6f})"
        return (
            f"{self.table}\n"
            f"masks that a pipeline would keep: {self.kept[0]} and {self.kept[1]}{ious}\n\n"
            f"{'within' if self.within(limits) else 'NOT within'} the limits: {asked}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {
            "pictures": self.pictures,
            "masks": self.masks,
            "rows": self.table.as_rows(),
            "masks_kept": self.kept,
            "kept_iou": self.kept_iou,
        }


def compare(expected: Sequence[Answer], actual: Sequence[Answer]) -> Comparison:
    """Compare answers to the same questions, question by question.

    Args:
        expected: What is measured against; at least one.
        actual: What is measured, as many.

    Raises:
        ParityError: The answers are not to the same questions.
    """
    tables = []
    for a, b in zip(expected, actual, strict=True):
        if set(a.tensors) != set(b.tensors):
            raise ParityError(f"{sorted(b.tensors)} cannot be compared with {sorted(a.tensors)}")
        rows = [compare_arrays(name, b.tensors[name], array) for name, array in a.tensors.items()]
        rows += [
            compare_arrays(declared[0], b.between[declared], array)
            for declared, array in a.between.items()
            if declared in b.between
        ]
        tables.append(Table((*rows, compare_masks("masks", b.masks, a.masks))))
    return Comparison(
        worst(tables),
        (sum(len(one.kept) for one in expected), sum(len(one.kept) for one in actual)),
        pictures=len(tables),
        masks=sum(len(one.masks) for one in expected),
        kept_iou=_kept_iou(expected, actual),
    )


def _kept_iou(expected: Sequence[Answer], actual: Sequence[Answer]) -> tuple[float, float] | None:
    found = [
        (compare_masks("kept", b.masks[a.kept], a.masks[a.kept]), len(a.kept))
        for a, b in zip(expected, actual, strict=True)
        if len(a.kept)
    ]
    if not found:
        return None
    count = sum(number for _, number in found)
    mean = sum((row.mask_iou_mean or 0.0) * number for row, number in found) / count
    return min(row.mask_iou_min or 0.0 for row, _ in found), mean


def samples(manifest: Manifest) -> list[NDArray[np.uint8]]:
    """Generated pictures (H, W, 3) of the kind that a model is for, the same ones each time."""
    if manifest.family == UNET:
        return list(sectors.sectors(SAMPLES))
    return list(synthetic.scenes()[:SAMPLES])


@dataclass(frozen=True, slots=True)
class Expected:
    """Questions to a model, and what its float32 graphs answer on the CPU."""

    folder: ModelFolder
    choice: Choice
    """Of the float32 graphs."""
    questions: tuple[Question, ...]
    answers: tuple[Answer, ...]

    def measure(self, candidate: Mapping[str, Backend], *, precision: str) -> Comparison:
        """Compare other graphs' answers with these.

        Args:
            candidate: What is measured: opened graphs by name, with host memory. A graph that is
                not there is the folder's float32 one, so that a single graph can be measured.
            precision: What the candidate computes in.

        Raises:
            BackendError: A graph failed.
        """
        with closing(Sessions(self.folder, self.choice)) as graphs:
            mixed = PreopenedSessions(candidate, precision, graphs)
            return compare(self.answers, [answer(mixed, one, precision) for one in self.questions])


def expect(
    folder: ModelFolder, *, pictures: Sequence[NDArray[np.uint8]] = (), threads: int = 0
) -> Expected:
    """Ask a folder's float32 graphs on the CPU what others are to be compared with.

    Args:
        folder: A model folder with float32 graphs.
        pictures: uint8 (H, W, 3); ``samples`` if there are none.
        threads: Processor threads of the float32 graphs, 0 for all.

    Raises:
        BackendError: A graph failed.
    """
    manifest = folder.manifest
    questions = tuple(ask(manifest, one) for one in pictures or samples(manifest))
    choice = Choice(REFERENCE.device, REFERENCE.backend, REFERENCE.precision, threads)
    return Expected(folder, choice, questions, answer_all(folder, choice, questions))


def gate(
    folder: ModelFolder,
    candidate: Mapping[str, Backend],
    *,
    precision: str,
    pictures: Sequence[NDArray[np.uint8]] = (),
    limits: Limits | None = None,
    threads: int = 0,
) -> Comparison:
    """Let pass what gives the masks that the folder's float32 graphs give on the CPU.

    Args:
        folder: As in ``expect``.
        candidate: As in ``Expected.measure``.
        precision: What it computes in.
        pictures: As in ``expect``.
        limits: Those of the family and precision if left out.
        threads: As in ``expect``.

    Returns:
        The comparison, to be kept beside what passed.

    Raises:
        ParityError: It is outside the limits; the message holds the table.
        BackendError: A graph failed.
    """
    expected = expect(folder, pictures=pictures, threads=threads)
    found = expected.measure(candidate, precision=precision)
    made_by = ", ".join(dict.fromkeys(backend.name for backend in candidate.values()))
    asked = limits or Limits.between(folder.manifest.family, ("fp32", precision))
    require(found, asked, f"{folder.manifest.name} in {precision} ({made_by})")
    return found


def require(found: Comparison, limits: Limits, what: str) -> None:
    """Refuse what gives other masks than float32.

    Raises:
        ParityError: The comparison is outside the limits; the message holds the table.
    """
    if not found.within(limits):
        raise ParityError(
            f"{what} is too far from its float32 masks; it was not kept.\n{found.told(limits)}"
        )
