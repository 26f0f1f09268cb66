"""SAM's mask decoder in two stages: tokens for every prompt, logits for the masks worth drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastseg.contract import MULTIPLE, Array
from fastseg.inference.sessions import GraphRunner, thresholded_decoder
from fastseg.sam.drawing import single_slots
from fastseg.sam.embedding import Embedding
from fastseg.sam.prompts import PromptBatch, Prompts

PROMPTS_PER_RUN = 16
"""Most prompts in one run of a stage. A prompt holds 4 MB of image tokens several times over while
it runs, so larger runs cost memory and leave the cache; the results do not depend on it."""

PROMPTS_PER_FUSED_RUN, PROMPTS_PER_THREAD = 64, 16
"""Most prompts in one run of both stages, which holds the image tokens of prompts in work only. A
thread takes up to 16 prompts at a time, for which weights are read once."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Outputs of the first stage for a batch of prompts."""

    iou_predictions: NDArray[np.float32]
    """(n, 4) the network's estimate of each mask's IoU."""

    mask_vectors: NDArray[np.float32]
    """(n, 4, 32) one vector a mask, to be multiplied with the upscaled image tokens."""

    image_tokens: Array
    """(n, ...) the image tokens after the prompt, in the layout of the decoder's runtime."""

    state: Mapping[str, Array] = field(default_factory=dict)
    """Arrays that all prompts of the image share, for a second stage that takes them."""

    def __getitem__(self, chosen: NDArray[np.intp]) -> Tokens:
        """Take some of the prompts; without a copy if they are all there."""
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
    """The masks of a batch of prompts whose score is above a bound."""

    logits: NDArray[np.float32]
    """(m, h, w) low-resolution logits; planes that are no such mask hold anything."""

    planes: NDArray[np.intp]
    """(n,) index of each mask in ``logits``, in the order of prompts and slots."""

    scores: NDArray[np.float32]
    """(n,) the network's estimate of each mask's IoU."""

    prompts: NDArray[np.intp]
    """(n,) index of each mask's prompt in the batch."""


class TwoStageDecoder:
    """The decoder graphs of a SAM folder.

    An embedding that is decoded must be completed first, once for all its prompts.
    """

    def __init__(self, graphs: GraphRunner) -> None:
        self._graphs = graphs
        self._input_names: dict[str, tuple[str, ...]] = {}

    def complete(self, embedding: Embedding) -> Embedding:
        """Add the arrays that all prompts of an image share, unless this decoder made them."""
        runs_on = self._state_runs_on
        if embedding.state is not None and embedding.state_of == runs_on:
            return embedding
        state = self._graphs.run("image_state", {"embedding": embedding.features[None]})
        return replace(embedding, state={**embedding.maps, **state}, state_of=runs_on)

    def tokens(self, embedding: Embedding, batch: PromptBatch) -> Tokens:
        """Run the first stage for a batch of at most ``PROMPTS_PER_RUN`` prompts.

        Args:
            embedding: A completed embedding.
            batch: The prompts.
        """
        name = "decoder" if batch.mask_input is None else "decoder_mask"
        state = embedding.state or {}
        inputs = self._shared_inputs(name, state)
        inputs |= {"point_coords": batch.point_coords, "point_labels": batch.point_labels}
        if batch.mask_input is not None:
            inputs["mask_input"] = batch.mask_input
        outputs = self._graphs.run(name, inputs)
        return Tokens(
            outputs["iou_predictions"], outputs["mask_vectors"], outputs["image_tokens"], state
        )

    @property
    def is_fused(self) -> bool:
        """True if one run does both stages, and several such runs may go on at once.

        Runs of other decoders hold 4 MB a prompt, and keep every thread busy.
        """
        return thresholded_decoder(self._graphs) is not None

    def most_prompts(self, threads: int) -> int:
        """Return the most prompts that ``decode_above`` takes: enough to keep all threads busy."""
        if not self.is_fused:
            return PROMPTS_PER_RUN
        return min(PROMPTS_PER_FUSED_RUN, PROMPTS_PER_THREAD * threads)

    def decode_prompts(
        self, embedding: Embedding, prompts: Prompts, slots: slice, *, side: int, stable: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run both stages for any number of prompts, in batches.

        Args:
            embedding: A completed embedding.
            prompts: The prompts, n of them.
            slots: ``contract.SINGLE`` or ``contract.MULTIPLE``.
            side: Height and width of low-resolution logits.
            stable: Choose the slot of the single mask by its stability, as SAM 2 does.

        Returns:
            (n, masks) predicted IoUs and (n, masks, side, side) low-resolution logits.
        """
        shape = (len(prompts), slots.stop - slots.start)
        scores, logits = np.empty(shape, np.float32), np.empty((*shape, side, side), np.float32)
        for batch in prompts.batches(embedding.frame, limit=PROMPTS_PER_RUN):
            if stable:
                found = self.decode_stable(embedding, batch)
            else:
                found = self.decode(embedding, batch, slots)
            scores[batch.indices], logits[batch.indices] = found
        return scores, logits

    def decode(
        self, embedding: Embedding, batch: PromptBatch, slots: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run both stages for all masks of some prompts, as one run where that is possible.

        Args:
            embedding: A completed embedding.
            batch: At most ``PROMPTS_PER_RUN`` prompts.
            slots: ``contract.SINGLE`` or ``contract.MULTIPLE``.

        Returns:
            (n, masks) predicted IoUs and (n, masks, h, w) low-resolution logits.
        """
        if slots == MULTIPLE and batch.mask_input is None:
            both = self._graphs.decode_above(self._prompt_inputs(embedding, batch), -math.inf)
            if both is not None:
                return both["iou_predictions"][:, slots], both["low_res_logits"]
        tokens = self.tokens(embedding, batch)
        return tokens.iou_predictions[:, slots], self.logits(tokens, slots)

    def decode_stable(
        self, embedding: Embedding, batch: PromptBatch
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run both stages for the single mask of some prompts by the rule of SAM 2.

        Args:
            embedding: A completed embedding.
            batch: At most ``PROMPTS_PER_RUN`` prompts.

        Returns:
            (n, 1) predicted IoUs and (n, 1, h, w) low-resolution logits of the chosen slots.
        """
        tokens = self.tokens(embedding, batch)
        logits = self.logits(tokens, slice(None))
        chosen = single_slots(logits, tokens.iou_predictions)[:, None]
        scores = np.take_along_axis(tokens.iou_predictions, chosen, 1)
        return scores, np.take_along_axis(logits, chosen[..., None, None], 1)

    def decode_above(
        self, embedding: Embedding, batch: PromptBatch, above: np.float32
    ) -> FoundMasks | None:
        """Run both stages for points, the second only for masks whose score is above a bound.

        Args:
            embedding: A completed embedding.
            batch: Prompts without mask prompts, at most ``most_prompts``.
            above: Bound on the predicted IoU of the three alternatives.

        Returns:
            The masks above the bound, or None if there is none.
        """
        both = self._graphs.decode_above(self._prompt_inputs(embedding, batch), float(above))
        if both is None:
            return self._decode_in_turn(embedding, batch, above)
        scores, logits = both["iou_predictions"][:, MULTIPLE], both["low_res_logits"]
        prompts, slots = np.nonzero(scores > above)
        if len(prompts) == 0:
            return None
        planes = prompts * logits.shape[1] + slots
        return FoundMasks(_planes(logits), planes, scores[prompts, slots], prompts)

    def _decode_in_turn(
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
        """Run the second stage.

        Args:
            tokens: Outputs of the first stage.
            slots: ``contract.SINGLE`` or ``contract.MULTIPLE``.

        Returns:
            (n, masks, h, w) float32 low-resolution logits.
        """
        vectors = np.ascontiguousarray(tokens.mask_vectors[:, slots])
        inputs = self._shared_inputs("mask_head", tokens.state)
        inputs |= {"image_tokens": tokens.image_tokens, "mask_vectors": vectors}
        logits: NDArray[np.float32] = self._graphs.run("mask_head", inputs)["low_res_logits"]
        return logits

    def _prompt_inputs(self, embedding: Embedding, batch: PromptBatch) -> dict[str, Array]:
        """Collect the inputs of the decoder for prompts without masks."""
        inputs = self._shared_inputs("decoder", embedding.state or {})
        return {
            **inputs,
            "point_coords": batch.point_coords,
            "point_labels": batch.point_labels,
        }

    @cached_property
    def _state_runs_on(self) -> str:
        return self._graphs.runs_on("image_state")

    def _shared_inputs(self, name: str, state: Mapping[str, Array]) -> dict[str, Array]:
        """Choose the inputs of a graph that all prompts of an image share."""
        names = self._input_names.get(name)
        if names is None:
            names = tuple(tensor.name for tensor in self._graphs[name].graph.inputs)
            self._input_names[name] = names
        return {wanted: state[wanted] for wanted in names if wanted in state}


def _planes(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reshape (prompts, masks, h, w) to (prompts * masks, h, w)."""
    return logits.reshape(-1, *logits.shape[2:])
