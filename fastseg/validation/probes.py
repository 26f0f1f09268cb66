"""What a model is asked so that two ways of running it can be compared, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import UNET, Manifest, Preprocessing
from fastseg.contract import (
    LABEL_BOX_BOTTOM_RIGHT,
    LABEL_BOX_TOP_LEFT,
    LABEL_FOREGROUND,
    LABEL_PADDING,
    UNET_GRAPH,
    Array,
    Dimension,
)
from fastseg.echo.frames import look, read_frame
from fastseg.geometry import Frame
from fastseg.inference.sessions import Choice, GraphRunner, Sessions
from fastseg.ops import Rle
from fastseg.sam.embedding import Embedding
from fastseg.sam.mask_generator import GridSettings
from fastseg.sam.prompts import PromptBatch
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN, Decoder

CLICKS_PER_SIDE, BOXES_PER_SIDE = 8, 4
"""The prompts of a comparison: a grid of clicks and a grid of boxes, and the boxes of the last row
once more, each with a mask prompt."""

SAMPLES = 3
"""Pictures of a comparison that names none."""


@dataclass(frozen=True, slots=True)
class PromptQuestion:
    """A picture with prompts."""

    pixels: NDArray[np.float32]
    """(1, 3, side, side) a picture as the encoder wants it."""

    frame: Frame
    coords: NDArray[np.float32]
    """(prompts, 2, 2) a click and its padding, or the corners of a box, in the model's square."""

    labels: NDArray[np.int32]
    """(prompts, 2)."""

    mask_input: NDArray[np.float32]
    """(n, 1, 4 * grid, 4 * grid) logits, with which the last n prompts are asked once more."""

    def batches(self, size: int) -> Iterator[PromptBatch]:
        """All prompts, at most ``size`` at a time: first without and then with mask prompts."""
        count, masked = len(self.coords), len(self.mask_input)
        for start in range(0, count, size):
            yield self._batch(slice(start, start + size), None)
        for start in range(0, masked, size):
            part = slice(start, min(start + size, masked))
            last = slice(count - masked + part.start, count - masked + part.stop)
            yield self._batch(last, self.mask_input[part])

    def _batch(self, part: slice, mask_input: NDArray[np.float32] | None) -> PromptBatch:
        coords = self.coords[part]
        return PromptBatch(np.arange(len(coords)), coords, self.labels[part], mask_input)


@dataclass(frozen=True, slots=True)
class FrameQuestion:
    """A frame for a network that takes no prompt."""

    pixels: NDArray[np.float32]
    """(1, channels, side, side)."""


Question: TypeAlias = PromptQuestion | FrameQuestion


Declared: TypeAlias = tuple[str, tuple[Dimension, ...]]
"""Name and declared shape of a tensor."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one way of running a model makes of one question."""

    tensors: Mapping[str, Array]
    """What the graphs gave, to be compared as numbers."""

    masks: Rle
    """Every mask, in order."""

    kept: NDArray[np.intp]
    """Indices of the masks that a pipeline would keep: sure, stable, away from the edge and
    distinct, as in everything mode at SAM's defaults; or, of a network for frames, chambers that
    are not empty."""

    backend: str
    device: str
    precision: str
    """What actually ran."""

    between: Mapping[Declared, Array] = field(default_factory=lambda: MappingProxyType({}))
    """What graphs handed to each other: what the prompts of the picture share, and the mask
    vectors. Runtimes have layouts of their own, which their declared shapes tell apart."""


def ask(manifest: Manifest, image: NDArray[np.uint8]) -> Question:
    """Prepare a picture (H, W, 3) as a model wants it, with prompts laid over if it takes any."""
    if manifest.family != UNET:
        return ask_prompts(image, manifest.image_preprocessing)
    wanted = manifest.frame_preprocessing
    frame = read_frame(image, wanted=wanted.channels)
    view = look((frame.shape[0], frame.shape[1]), field_of_view_cm=wanted.field_of_view_cm)
    return FrameQuestion(ops.frame_input(frame, view.window, wanted.side)[None])


def ask_prompts(image: NDArray[np.uint8], preprocessing: Preprocessing) -> PromptQuestion:
    """Lay clicks, boxes and masks over a picture (H, W, 3) and prepare it as a model wants it."""
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
    coords = frame.to_model(points * np.array([width, height]))
    return PromptQuestion(
        pixels=ops.preprocess(image, frame, preprocessing.mean, preprocessing.std)[None],
        frame=frame,
        coords=coords,
        labels=labels.astype(np.int32),
        mask_input=_discs(coords[-BOXES_PER_SIDE:], preprocessing.side // 4),
    )


def answer_all(
    folder: ModelFolder, choice: Choice, questions: Sequence[Question]
) -> tuple[Answer, ...]:
    """Answer questions with the graphs of a model folder, which are opened once."""
    with closing(Sessions(folder, choice)) as graphs:
        return tuple(
            replace(
                answer(graphs, one, graphs.precision), backend=graphs.backend, device=graphs.device
            )
            for one in questions
        )


def answer(graphs: GraphRunner, question: Question, precision: str) -> Answer:
    """Answer a question with opened graphs, whose arrays lie in host memory.

    Args:
        graphs: All that the question needs: ``network``, or every graph of ``SAM_GRAPHS``.
        question: For a model of this family.
        precision: What the graphs compute in; goes into the answer.
    """
    if isinstance(question, FrameQuestion):
        backend = graphs[UNET_GRAPH]
        probabilities = backend.run({"frames": question.pixels})["probabilities"]
        return frame_answer(probabilities, backend.name, precision)
    decoder = Decoder(graphs)
    features = graphs["encoder"].run({"image": question.pixels})["embedding"][0]
    embedding = decoder.complete(Embedding(features=features, frame=question.frame, model=""))
    ious, vectors, logits = [], [], []
    for batch in question.batches(PROMPTS_PER_RUN):
        tokens = decoder.tokens(embedding, batch)
        ious.append(tokens.iou_predictions)
        vectors.append(tokens.mask_vectors)
        logits.append(decoder.logits(tokens, slice(None)))
    found = (features, np.concatenate(ious), np.concatenate(logits))
    handed_on = {**(embedding.state or {}), "mask_vectors": np.concatenate(vectors)}
    declared = (*graphs["image_state"].graph.outputs, *graphs["decoder"].graph.outputs)
    between = {
        (one.name, one.shape): handed_on[one.name] for one in declared if one.name in handed_on
    }
    return replace(
        prompt_answer(question, found, graphs["encoder"].name, precision), between=between
    )


def prompt_answer(
    question: PromptQuestion,
    found: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    name: str,
    precision: str,
) -> Answer:
    """Put an answer together.

    Args:
        question: That is answered.
        found: The embedding (256, grid, grid), IoU predictions (prompts, 4) and logits
            (prompts, 4, 4 * grid, 4 * grid).
        name: Runtime and device, ``"onnxruntime:cpu"``.
        precision: What ran.
    """
    embedding, ious, logits = found
    side = logits.shape[-1]
    masks = ops.binarise(logits.reshape(-1, side, side), question.frame)
    backend, _, device = name.partition(":")
    # Slot 0 is none of the alternatives that everything mode chooses from.
    alternatives = np.flatnonzero(np.arange(ious.size) % ious.shape[1] > 0)
    return Answer(
        {"embedding": embedding, "iou_predictions": ious, "low_res_logits": logits},
        masks.runs,
        kept(ious.reshape(-1), masks, question.frame, alternatives),
        backend,
        device,
        precision,
    )


def frame_answer(probabilities: NDArray[np.float32], name: str, precision: str) -> Answer:
    """Put the answer of a network for frames together, of probabilities (1, classes, h, w)."""
    masks = ops.rle_from_array(np.ascontiguousarray(probabilities[0] > 0.5))
    backend, _, device = name.partition(":")
    drawn = np.flatnonzero(ops.rle_areas(masks))
    return Answer({"probabilities": probabilities}, masks, drawn, backend, device, precision)


def _discs(corners: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """A mask prompt (prompts, 1, side, side) in each box: logits of a disc, 8 at its middle."""
    middles, extents = corners.mean(axis=1) / 4, np.abs(corners[:, 1] - corners[:, 0]) / 4
    y, x = np.mgrid[:side, :side] + 0.5
    away = np.stack([x, y], axis=-1) - middles[:, None, None]
    distance = np.linalg.norm(away, axis=-1) / (extents.min(axis=1)[:, None, None] / 2)
    logits: NDArray[np.float32] = np.clip(8 - 8 * distance, -16, 16).astype(np.float32)
    return logits[:, None]


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
