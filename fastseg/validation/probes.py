"""Probes: inputs on which two configurations of a model are compared, and the outputs for them."""

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
from fastseg.artifacts.manifest import GUIDED, UNET, Manifest
from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.contract import (
    GUIDED_GRAPH,
    LABEL_BOX_BOTTOM_RIGHT,
    LABEL_BOX_TOP_LEFT,
    LABEL_FOREGROUND,
    LABEL_PADDING,
    MASK_SLOTS,
    MULTIPLE,
    UNET_GRAPH,
    Array,
    Dimension,
)
from fastseg.echo.frames import choose_view, read_frame
from fastseg.geometry import Frame
from fastseg.inference.sessions import Choice, GraphRunner, Sessions
from fastseg.ops import Rle
from fastseg.sam.embedding import Embedding
from fastseg.sam.grid_settings import GridSettings
from fastseg.sam.preprocessing import encoder_input
from fastseg.sam.prompts import PromptBatch
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN, TwoStageDecoder
from fastseg.validation.guided_probe import GuidedProbe, build_guided_probe, masks_of

POINTS_PER_SIDE, BOXES_PER_SIDE = 8, 4
"""Sizes of the grids of points and boxes in a probe. The last row of boxes stands twice in it, the
second time each with a mask prompt."""

SAMPLES = 3
"""Generated images of a comparison that is given none."""


@dataclass(frozen=True, slots=True)
class PromptProbe:
    """An image with prompts."""

    pixels: NDArray[np.float32]
    """(1, 3, side, side) the image as the encoder takes it."""

    frame: Frame
    coords: NDArray[np.float32]
    """(prompts, 2, 2) a point and its padding, or the corners of a box, in the model's square."""

    labels: NDArray[np.int32]
    """(prompts, 2)."""

    mask_input: NDArray[np.float32]
    """(n, 1, 4 * grid, 4 * grid) mask prompts: logits that go with the last n prompts when they
    are run a second time."""

    @property
    def feed(self) -> dict[str, Array]:
        """The input of the encoder."""
        return {"image": self.pixels}

    def batches(self, size: int, *, masked: bool = True) -> Iterator[PromptBatch]:
        """Give all prompts, at most ``size`` at a time: without mask prompts, then with them.

        Args:
            size: Most prompts of a batch.
            masked: Whether the prompts with a mask are among them.
        """
        count, repeated = len(self.coords), len(self.mask_input) if masked else 0
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            yield self._batch(np.arange(part.start, part.stop), part, None)
        for start in range(0, repeated, size):
            part = slice(start, min(start + size, repeated))
            last = slice(count - repeated + part.start, count - repeated + part.stop)
            indices = np.arange(count + part.start, count + part.stop)
            yield self._batch(indices, last, self.mask_input[part])

    def _batch(
        self, indices: NDArray[np.intp], part: slice, mask_input: NDArray[np.float32] | None
    ) -> PromptBatch:
        return PromptBatch(indices, self.coords[part], self.labels[part], mask_input)


@dataclass(frozen=True, slots=True)
class FrameProbe:
    """A frame for a network that takes no prompts."""

    pixels: NDArray[np.float32]
    """(1, channels, side, side)."""

    @property
    def feed(self) -> dict[str, Array]:
        """The input of the graph."""
        return {"frames": self.pixels}


Probe: TypeAlias = PromptProbe | FrameProbe | GuidedProbe


TensorSignature: TypeAlias = tuple[str, tuple[Dimension, ...]]
"""Name and declared shape of a tensor."""


@dataclass(frozen=True, slots=True)
class DrawnMasks:
    """Masks that one configuration drew for one probe."""

    ids: NDArray[np.intp]
    """(n,) position of each mask among all masks of the probe: prompt * 4 + slot, or the class."""

    masks: Rle
    """n masks, in the order of ``ids``."""

    kept: NDArray[np.intp]
    """Indices of the masks that a pipeline would keep: sure, stable, away from the edge and
    distinct, as in everything mode at SAM's defaults. Of a network for frames: chambers that are
    not empty."""

    @property
    def kept_ids(self) -> NDArray[np.intp]:
        """(kept,) ``ids`` of the masks that would be kept."""
        return self.ids[self.kept]

    def find(self, ids: NDArray[np.intp]) -> Rle:
        """Return the masks with these ids, all of which must have been drawn."""
        order = np.argsort(self.ids)
        return self.masks[order[np.searchsorted(self.ids, ids, sorter=order)]]


@dataclass(frozen=True, slots=True)
class ModelOutputs:
    """Everything that one configuration of a model computed for one probe."""

    tensors: Mapping[str, Array]
    """The graphs' outputs, to be compared as numbers."""

    drawn: DrawnMasks
    """Every mask."""

    backend: str
    device: str
    precision: str
    """The runtime, device and precision that computed them."""

    intermediates: Mapping[TensorSignature, Array] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Tensors that one graph hands to the next: the image state and the mask vectors. Runtimes
    have layouts of their own, which the declared shapes tell apart."""


def build_probe(manifest: Manifest, image: NDArray[np.uint8]) -> Probe:
    """Prepare an image (H, W, 3) for a model, with prompts if the model takes any."""
    if manifest.family in GUIDED:
        return build_guided_probe(image, manifest)
    if manifest.family != UNET:
        return build_prompt_probe(image, manifest)
    wanted = manifest.frame_preprocessing
    frame = read_frame(image, wanted=wanted.channels)
    view = choose_view((frame.shape[0], frame.shape[1]), field_of_view_cm=wanted.field_of_view_cm)
    return FrameProbe(ops.frame_input(frame, view.window, wanted.side)[None])


def build_prompt_probe(image: NDArray[np.uint8], manifest: Manifest) -> PromptProbe:
    """Prepare an image (H, W, 3) and lay grids of points, boxes and masks over it.

    Masks are left out where the model takes none.
    """
    height, width = image.shape[:2]
    preprocessing = manifest.image_preprocessing
    masked = BOXES_PER_SIDE if manifest.sam_rules.prompts.masks else 0
    frame = preprocessing.frame((height, width))
    grid = ops.point_grid(POINTS_PER_SIDE)
    middles, half = ops.point_grid(BOXES_PER_SIDE), 0.4 / BOXES_PER_SIDE
    points = np.concatenate(
        [
            np.stack([grid, np.zeros_like(grid)], axis=1),
            np.stack([middles - half, middles + half], axis=1),
        ]
    )
    labels = np.concatenate(
        [
            np.tile((LABEL_FOREGROUND, LABEL_PADDING), (len(grid), 1)),
            np.tile((LABEL_BOX_TOP_LEFT, LABEL_BOX_BOTTOM_RIGHT), (len(middles), 1)),
        ]
    )
    coords = frame.to_model(points * np.array([width, height]))
    return PromptProbe(
        pixels=encoder_input(image, frame, preprocessing),
        frame=frame,
        coords=coords,
        labels=labels.astype(np.int32),
        mask_input=_discs(coords[len(coords) - masked :], preprocessing),
    )


def run_probes(
    folder: ModelFolder, choice: Choice, probes: Sequence[Probe]
) -> tuple[ModelOutputs, ...]:
    """Run probes through the graphs of a model folder, which are opened once."""
    with closing(Sessions(folder, choice)) as graphs:
        return tuple(
            replace(
                run_probe(graphs, one, graphs.precision),
                backend=graphs.backend,
                device=graphs.device,
            )
            for one in probes
        )


def run_probe(graphs: GraphRunner, probe: Probe, precision: str) -> ModelOutputs:
    """Run a probe through opened graphs, whose arrays lie in host memory.

    Args:
        graphs: ``network``, or every graph of ``SAM_GRAPHS``.
        probe: Of the same family.
        precision: The precision that the graphs compute in, for the outputs.
    """
    if isinstance(probe, FrameProbe):
        backend = graphs[UNET_GRAPH]
        probabilities = backend.run(probe.feed)["probabilities"]
        return frame_outputs(probabilities, backend.name, precision)
    if isinstance(probe, GuidedProbe):
        backend = graphs[GUIDED_GRAPH]
        masked = backend.run(probe.feed)["logits"]
        return guided_outputs(probe, masked, backend.name, precision)
    decoder = TwoStageDecoder(graphs)
    embedding = decoder.complete(encode(graphs, probe))
    ious, vectors, logits = [], [], []
    for batch in probe.batches(PROMPTS_PER_RUN):
        tokens = decoder.tokens(embedding, batch)
        ious.append(tokens.iou_predictions)
        vectors.append(tokens.mask_vectors)
        logits.append(decoder.logits(tokens, slice(None)))
    found = (embedding.features, np.concatenate(ious), np.concatenate(logits))
    handed_on = {**(embedding.state or {}), "mask_vectors": np.concatenate(vectors)}
    declared = (*graphs["image_state"].graph.outputs, *graphs["decoder"].graph.outputs)
    intermediates = {
        (one.name, one.shape): handed_on[one.name] for one in declared if one.name in handed_on
    }
    outputs = prompt_outputs(probe, found, graphs["encoder"].name, precision)
    return replace(outputs, intermediates=intermediates)


def draw_masks(graphs: GraphRunner, probe: PromptProbe, *, only: NDArray[np.intp]) -> DrawnMasks:
    """Draw no masks but those that everything mode could keep, and those of ``only``.

    Cheaper than ``run_probe``, and enough to compare the masks that are kept. Prompts with a mask
    are left out, as everything mode has none.

    Args:
        graphs: As in ``run_probe``.
        probe: An image with prompts.
        only: (n,) ids of the masks that another configuration keeps. Their prompts are drawn
            whatever they score here.
    """
    decoder, least = TwoStageDecoder(graphs), np.float32(GridSettings().pred_iou_thresh)
    embedding = decoder.complete(encode(graphs, probe))
    slots = np.arange(MASK_SLOTS)[MULTIPLE]
    side = 4 * embedding.features.shape[-1]
    ids = [np.empty((0, len(slots)), np.intp)]
    scores = [np.empty((0, len(slots)), np.float32)]
    logits = [np.empty((0, len(slots), side, side), np.float32)]
    for batch in probe.batches(PROMPTS_PER_RUN, masked=False):
        tokens = decoder.tokens(embedding, batch)
        sure = (tokens.iou_predictions[:, MULTIPLE] > least).any(axis=1)
        drawn = np.flatnonzero(sure | np.isin(batch.indices, only // MASK_SLOTS))
        if len(drawn):
            ids.append(batch.indices[drawn, None] * MASK_SLOTS + slots)
            scores.append(tokens.iou_predictions[drawn, MULTIPLE])
            logits.append(decoder.logits(tokens[drawn], MULTIPLE))
    flat = np.concatenate(ids).reshape(-1), np.concatenate(scores).reshape(-1)
    return _drawn(*flat, np.concatenate(logits), probe.frame)


def encode(graphs: GraphRunner, probe: PromptProbe) -> Embedding:
    """Run the encoder on the image of a probe."""
    maps = graphs.run("encoder", {"image": probe.pixels})
    features = maps.pop("embedding")[0]
    return Embedding(features=features, frame=probe.frame, model="", maps=maps)


def prompt_outputs(
    probe: PromptProbe,
    found: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    name: str,
    precision: str,
) -> ModelOutputs:
    """Draw the masks of a probe and collect all outputs.

    Args:
        probe: The probe that was run.
        found: The embedding (256, grid, grid), IoU predictions (prompts, 4) and logits
            (prompts, 4, 4 * grid, 4 * grid).
        name: Runtime and device, ``"onnxruntime:cpu"``.
        precision: The precision that was computed in.
    """
    embedding, ious, logits = found
    backend, _, device = name.partition(":")
    return ModelOutputs(
        {"embedding": embedding, "iou_predictions": ious, "low_res_logits": logits},
        _drawn(np.arange(ious.size), ious.reshape(-1), logits, probe.frame),
        backend,
        device,
        precision,
    )


def frame_outputs(probabilities: NDArray[np.float32], name: str, precision: str) -> ModelOutputs:
    """Draw the masks of probabilities (1, classes, h, w) and collect all outputs."""
    masks = ops.rle_from_array(np.ascontiguousarray(probabilities[0] > 0.5))
    backend, _, device = name.partition(":")
    drawn = DrawnMasks(np.arange(len(masks)), masks, np.flatnonzero(ops.rle_areas(masks)))
    return ModelOutputs({"probabilities": probabilities}, drawn, backend, device, precision)


def guided_outputs(
    probe: GuidedProbe, logits: NDArray[np.float32], name: str, precision: str
) -> ModelOutputs:
    """Draw the masks of logits (prompts, 1, h, w) and collect all outputs."""
    masks = masks_of(logits, probe.threshold)
    backend, _, device = name.partition(":")
    drawn = DrawnMasks(np.arange(len(masks)), masks, np.flatnonzero(ops.rle_areas(masks)))
    return ModelOutputs({"logits": logits}, drawn, backend, device, precision)


def _discs(corners: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Draw a mask prompt (prompts, 1, side, side) in each box: a disc, 8 at its middle."""
    side = preprocessing.mask_side
    corners = corners * (side / preprocessing.square)
    middles, extents = corners.mean(axis=1), np.abs(corners[:, 1] - corners[:, 0])
    y, x = np.mgrid[:side, :side] + 0.5
    away = np.stack([x, y], axis=-1) - middles[:, None, None]
    distance = np.linalg.norm(away, axis=-1) / (extents.min(axis=1)[:, None, None] / 2)
    logits: NDArray[np.float32] = np.clip(8 - 8 * distance, -16, 16).astype(np.float32)
    return logits[:, None]


def _drawn(
    ids: NDArray[np.intp],
    scores: NDArray[np.float32],
    logits: NDArray[np.float32],
    frame: Frame,
) -> DrawnMasks:
    """Draw masks, and choose those that everything mode would keep at SAM's defaults.

    Args:
        ids: (n,) of each mask.
        scores: (n,) IoU predictions.
        logits: (..., h, w) of n masks.
        frame: The image that they are of.
    """
    masks = ops.binarise(logits.reshape(-1, *logits.shape[-2:]), frame)
    settings = GridSettings()
    # Slot 0 is none of the alternatives that everything mode chooses from.
    among = np.flatnonzero(ids % MASK_SLOTS > 0)
    passed = among[
        (scores[among] > settings.pred_iou_thresh)
        & (masks.stability[among] >= settings.stability_score_thresh)
        & ~ops.near_crop_edge(masks.boxes[among], frame)
    ]
    distinct = ops.box_nms(masks.boxes[passed], scores[passed], settings.box_nms_thresh)
    return DrawnMasks(ids, masks.runs, passed[distinct])
