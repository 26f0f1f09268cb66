"""One model run in two ways on the same picture and prompts: how far apart are the answers?"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts import ModelFolder
from fastseg.contract import (
    LABEL_BOX_BOTTOM_RIGHT,
    LABEL_BOX_TOP_LEFT,
    LABEL_FOREGROUND,
    LABEL_PADDING,
)
from fastseg.decoder import PROMPTS_PER_RUN, Decoder
from fastseg.embedding import Embedding
from fastseg.errors import BackendError
from fastseg.everything import GridSettings
from fastseg.geometry import Frame
from fastseg.graphs import Choice, Graphs
from fastseg.manifest import Preprocessing
from fastseg.parity import Table, compare_arrays, compare_masks
from fastseg.prompts import PromptBatch

CLICKS_PER_SIDE, BOXES_PER_SIDE = 8, 4
"""The prompts of a comparison: a grid of clicks and a grid of boxes."""


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
class Question:
    """What both ways are asked."""

    pixels: NDArray[np.float32]
    """(1, 3, side, side) a picture as the encoder wants it."""

    frame: Frame
    coords: NDArray[np.float32]
    """(prompts, 2, 2) a click and its padding, or the corners of a box, in the model's square."""

    labels: NDArray[np.int32]
    """(prompts, 2)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one way makes of a question."""

    embedding: NDArray[np.float32]
    """(256, grid, grid)."""

    iou_predictions: NDArray[np.float32]
    """(prompts, 4)."""

    logits: NDArray[np.float32]
    """(prompts, 4, 4 * grid, 4 * grid) low-resolution logits."""

    backend: str
    device: str
    precision: str
    """What actually ran."""


def run_graphs(folder: ModelFolder, choice: Choice, question: Question) -> Answer:
    """Answer a question with the graphs of a model folder, a few prompts at a time."""
    with closing(Graphs(folder, choice)) as graphs:
        decoder = Decoder(graphs)
        features = graphs["encoder"].run({"image": question.pixels})["embedding"][0]
        embedding = decoder.complete(Embedding(features=features, frame=question.frame, model=""))
        ious, logits = [], []
        for start in range(0, len(question.coords), PROMPTS_PER_RUN):
            part = slice(start, start + PROMPTS_PER_RUN)
            coords, labels = question.coords[part], question.labels[part]
            tokens = decoder.tokens(
                embedding, PromptBatch(np.arange(len(coords)), coords, labels, None)
            )
            ious.append(tokens.iou_predictions)
            logits.append(decoder.logits(tokens, slice(None)))
        where = (graphs.backend, graphs["encoder"].name.partition(":")[2], graphs.precision)
    return Answer(features, np.concatenate(ious), np.concatenate(logits), *where)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far two answers to one question are apart."""

    table: Table
    """Embedding, IoU predictions, logits and masks."""

    kept: tuple[int, int]
    """Masks of either answer that pass the filters of everything mode at SAM's defaults."""

    prompts: int

    def within(self, *, max_relative: float, min_iou: float) -> bool:
        """Whether every array is close enough to its counterpart, and every mask."""
        return all(
            row.within(max_relative) if row.mask_iou_min is None else row.mask_iou_min >= min_iou
            for row in self.table.rows
        )

    def as_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {"prompts": self.prompts, "rows": self.table.as_rows(), "masks_kept": self.kept}


def ask(image: NDArray[np.uint8], preprocessing: Preprocessing) -> Question:
    """Lay clicks and boxes over a picture (H, W, 3) and prepare it as a model wants it."""
    height, width = image.shape[:2]
    frame = Frame((height, width), preprocessing.side)
    clicks = ops.point_grid(CLICKS_PER_SIDE)
    middles, half = ops.point_grid(BOXES_PER_SIDE), 0.4 / BOXES_PER_SIDE
    points = np.concatenate(
        [
            np.stack([clicks, np.zeros_like(clicks)], axis=1),
            np.stack([middles - half, middles + half], axis=1),
        ]
    )
    labels = np.concatenate(
        [
            np.tile((LABEL_FOREGROUND, LABEL_PADDING), (len(clicks), 1)),
            np.tile((LABEL_BOX_TOP_LEFT, LABEL_BOX_BOTTOM_RIGHT), (len(middles), 1)),
        ]
    )
    return Question(
        pixels=ops.preprocess(image, frame, preprocessing.mean, preprocessing.std)[None],
        frame=frame,
        coords=frame.to_model(points * np.array([width, height])),
        labels=labels.astype(np.int32),
    )


def compare(question: Question, a: Answer, b: Answer) -> Comparison:
    """Compare two answers to a question; ``a`` is what ``b`` is measured against."""
    masks = [_binarise(answer, question.frame) for answer in (a, b)]
    table = Table(
        (
            compare_arrays("embedding", b.embedding, a.embedding),
            compare_arrays("iou_predictions", b.iou_predictions, a.iou_predictions),
            compare_arrays("low_res_logits", b.logits, a.logits),
            compare_masks("masks", masks[1].runs, masks[0].runs),
        )
    )
    counts = (_count(a, masks[0], question.frame), _count(b, masks[1], question.frame))
    return Comparison(table, counts, len(question.coords))


def _binarise(answer: Answer, frame: Frame) -> ops.Binarised:
    side = answer.logits.shape[-1]
    return ops.binarise(answer.logits.reshape(-1, side, side), frame)


def _count(answer: Answer, masks: ops.Binarised, frame: Frame) -> int:
    """How many masks everything mode would keep; slot 0 is not among them."""
    scores = answer.iou_predictions.reshape(-1)
    alternatives = np.flatnonzero(np.arange(len(scores)) % answer.iou_predictions.shape[1] > 0)
    return len(kept(scores, masks, frame, alternatives))


def kept(
    scores: NDArray[np.float32], masks: ops.Binarised, frame: Frame, among: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Indices of masks that are sure, stable, away from the edge and distinct.

    As everything mode would keep them at SAM's defaults.

    Args:
        scores: (n,) IoU predictions.
        masks: n of them.
        frame: The picture that they are of.
        among: Indices of those that may be kept at all.
    """
    settings = GridSettings()
    passed = among[
        (scores[among] > settings.pred_iou_thresh)
        & (masks.stability[among] >= settings.stability_score_thresh)
        & ~ops.near_crop_edge(masks.boxes[among], frame)
    ]
    distinct = ops.box_nms(masks.boxes[passed], scores[passed], settings.box_nms_thresh)
    found: NDArray[np.intp] = passed[distinct]
    return found
