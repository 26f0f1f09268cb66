"""SAM's mask decoder in two stages: tokens for every prompt, pictures for the survivors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fastseg.contract import Array
from fastseg.inference.sessions import GraphRunner, thresholded_decoder
from fastseg.sam.embedding import Embedding
from fastseg.sam.prompts import PromptBatch

PROMPTS_PER_RUN = 16
"""Most prompts in one run. Each holds 4 MB of image tokens several times over while it runs, so
larger runs cost memory and leave the cache; the results do not depend on it."""

SINGLE, MULTIPLE = slice(0, 1), slice(1, 4)
"""Slots that are returned: one mask a prompt, or three alternatives."""

PROMPTS_PER_SEARCH, PROMPTS_PER_THREAD = 64, 16
"""Most prompts in one search, which holds no image tokens but those at work; its threads take up to
16 each at a time, for which weights are read once."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the first stage knows of each prompt of a batch."""

    iou_predictions: NDArray[np.float32]
    """(n, 4) the network's estimate of each mask's IoU."""

    mask_vectors: NDArray[np.float32]
    """(n, 4, 32) one vector a mask, to be multiplied with the upscaled image tokens."""

    image_tokens: Array
    """(n, ...) the image as the prompt left it, or how to make it; the second stage's input."""

    state: Mapping[str, Array] = field(default_factory=dict)
    """What the prompts' image shares, for a second stage that wants it."""

    def __getitem__(self, chosen: NDArray[np.intp]) -> Tokens:
        """Some of the prompts; without a copy if they are all there."""
        if len(chosen) == len(self.iou_predictions):
            return self
        return Tokens(
            self.iou_predictions[chosen],
            self.mask_vectors[chosen],
            self.image_tokens[chosen],
            self.state,
        )


@dataclass(frozen=True, slots=True)
class FoundMasks:
    """The masks of a batch of prompts that score well enough."""

    logits: NDArray[np.float32]
    """(m, h, w) low-resolution logits; planes that are no such mask hold anything."""

    planes: NDArray[np.intp]
    """(n,) where each mask lies in them, in the order of prompts and slots."""

    scores: NDArray[np.float32]
    """(n,) the network's estimate of each mask's IoU."""

    prompts: NDArray[np.intp]
    """(n,) of each mask."""


class Decoder:
    """Runs the decoder graphs of a SAM folder."""

    def __init__(self, graphs: GraphRunner) -> None:
        self._graphs = graphs

    def complete(self, embedding: Embedding) -> Embedding:
        """Add what all prompts of an image share, unless it is there: its layer 0 projections."""
        runs_on = self._graphs.runs_on("image_state")
        if embedding.state is not None and embedding.state_of == runs_on:
            return embedding
        state = self._graphs.run("image_state", {"embedding": embedding.features[None]})
        return replace(embedding, state=state, state_of=runs_on)

    def tokens(self, embedding: Embedding, batch: PromptBatch) -> Tokens:
        """Run the first stage for a batch of at most ``PROMPTS_PER_RUN`` prompts."""
        name = "decoder" if batch.mask_input is None else "decoder_mask"
        state = self.complete(embedding).state or {}
        inputs = self._asked_for(name, state)
        inputs |= {"point_coords": batch.point_coords, "point_labels": batch.point_labels}
        if batch.mask_input is not None:
            inputs["mask_input"] = batch.mask_input
        outputs = self._graphs.run(name, inputs)
        return Tokens(
            outputs["iou_predictions"], outputs["mask_vectors"], outputs["image_tokens"], state
        )

    @property
    def searches(self) -> bool:
        """Whether both stages are one, which may be run several times at once.

        Runs of other decoders hold 4 MB a prompt, and keep every thread busy.
        """
        return thresholded_decoder(self._graphs) is not None

    def most_prompts(self, threads: int) -> int:
        """Prompts that ``search`` takes at once: what so many threads are busy with, not more."""
        if not self.searches:
            return PROMPTS_PER_RUN
        return min(PROMPTS_PER_SEARCH, PROMPTS_PER_THREAD * threads)

    def search(
        self, embedding: Embedding, batch: PromptBatch, above: np.float32
    ) -> FoundMasks | None:
        """Run both stages for clicks, the second only where one of three masks scores above.

        At once where what runs the graphs can do so. None if there is no such mask.
        """
        state = self.complete(embedding).state or {}
        inputs = self._asked_for("decoder", state)
        inputs |= {"point_coords": batch.point_coords, "point_labels": batch.point_labels}
        both = self._graphs.decode_above(inputs, float(above))
        if both is None:
            return self._search_in_turn(embedding, batch, above)
        scores, logits = both["iou_predictions"][:, MULTIPLE], both["low_res_logits"]
        prompts, slots = np.nonzero(scores > above)
        if len(prompts) == 0:
            return None
        planes = prompts * logits.shape[1] + slots
        return FoundMasks(_planes(logits), planes, scores[prompts, slots], prompts)

    def _search_in_turn(
        self, embedding: Embedding, batch: PromptBatch, above: np.float32
    ) -> FoundMasks | None:
        tokens = self.tokens(embedding, batch)
        scores = tokens.iou_predictions[:, MULTIPLE]
        prompts, slots = np.nonzero(scores > above)
        if len(prompts) == 0:
            return None
        survivors, rows = np.unique(prompts, return_inverse=True)
        logits = self.logits(tokens[survivors], MULTIPLE)
        planes = rows * logits.shape[1] + slots
        return FoundMasks(_planes(logits), planes, scores[prompts, slots], prompts)

    def logits(self, tokens: Tokens, slots: slice) -> NDArray[np.float32]:
        """Run the second stage: (n, masks, h, w) low-resolution logits of ``slots``."""
        vectors = np.ascontiguousarray(tokens.mask_vectors[:, slots])
        inputs = self._asked_for("mask_head", tokens.state)
        inputs |= {"image_tokens": tokens.image_tokens, "mask_vectors": vectors}
        logits: NDArray[np.float32] = self._graphs.run("mask_head", inputs)["low_res_logits"]
        return logits

    def _asked_for(self, name: str, state: Mapping[str, Array]) -> dict[str, Array]:
        """What a graph takes of what prompts share."""
        inputs = self._graphs[name].graph.inputs
        return {tensor.name: state[tensor.name] for tensor in inputs if tensor.name in state}


def _planes(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(prompts, masks, h, w) as (prompts * masks, h, w)."""
    return logits.reshape(-1, *logits.shape[2:])
