"""SAM's mask decoder in two stages: tokens for every prompt, logits for the masks worth drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.rules import BEST, STABLE, OutputRules
from fastseg.backends.base import MasksAbove
from fastseg.contract import MASK_SLOTS, MULTIPLE, SINGLE, Array
from fastseg.inference.sessions import GraphRunner, thresholded_decoder
from fastseg.sam.drawing import drawn_extent, single_slots
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
    """(n, 4, vector) one vector a mask, to be multiplied with the upscaled image tokens."""

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
    """(m, h, w) low-resolution logits; planes that are no such mask hold anything, and so do rows
    and columns of padding, which ``drawing.draw`` does not read."""

    planes: NDArray[np.intp]
    """(n,) index of each mask in ``logits``, in the order of prompts and slots."""

    scores: NDArray[np.float32]
    """(n,) the network's estimate of each mask's IoU."""

    prompts: NDArray[np.intp]
    """(n,) index of each mask's prompt in the batch."""


class TwoStageDecoder:
    """The decoder graphs of a SAM folder.

    An embedding that is decoded must be completed first, once for all its prompts.

    Args:
        graphs: Of the folder.
        rules: Of the model; those of SAM if left out.
    """

    def __init__(self, graphs: GraphRunner, rules: OutputRules | None = None) -> None:
        self.graphs = graphs
        """The graphs that it runs."""
        self._rules = rules or OutputRules()
        self._input_names: dict[str, tuple[str, ...]] = {}

    def complete(self, embedding: Embedding) -> Embedding:
        """Add the arrays that all prompts of an image share, unless this decoder made them."""
        runs_on = self._state_runs_on
        if embedding.state is not None and embedding.state_of == runs_on:
            return embedding
        inputs = self._shared_inputs("image_state", embedding.maps)
        state = self.graphs.run("image_state", {**inputs, "embedding": embedding.features[None]})
        return replace(embedding, state={**embedding.maps, **state}, state_of=runs_on)

    def tokens(self, embedding: Embedding, batch: PromptBatch) -> Tokens:
        """Run the first stage for a batch of at most ``PROMPTS_PER_RUN`` prompts.

        Args:
            embedding: A completed embedding.
            batch: The prompts.
        """
        outputs = self.graphs.run(*self._prompt_inputs(embedding, batch))
        return Tokens(
            outputs["iou_predictions"],
            outputs["mask_vectors"],
            outputs["image_tokens"],
            embedding.state or {},
        )

    @property
    def is_fused(self) -> bool:
        """True if one run does both stages, and several such runs may go on at once.

        Runs of other decoders hold 4 MB a prompt, and keep every thread busy.
        """
        return thresholded_decoder(self.graphs, "decoder") is not None

    def most_prompts(self, threads: int) -> int:
        """Return the most prompts that ``decode_above`` takes: enough to keep all threads busy."""
        if not self.is_fused:
            return PROMPTS_PER_RUN
        return min(PROMPTS_PER_FUSED_RUN, PROMPTS_PER_THREAD * threads)

    def decode_prompts(
        self, embedding: Embedding, prompts: Prompts, slots: slice, *, side: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run both stages for any number of prompts, in batches.

        Args:
            embedding: A completed embedding.
            prompts: The prompts, n of them.
            slots: ``contract.SINGLE`` or ``contract.MULTIPLE``.
            side: Height and width of low-resolution logits.

        Returns:
            (n, masks) predicted IoUs and (n, masks, side, side) low-resolution logits. Where the
            rules choose one slot of several, masks is 1.
        """
        limit = self._prompts_per_run(slots, masked=prompts.masks is not None)
        masks = 1 if self._picks_best(slots) else slots.stop - slots.start
        shape = (len(prompts), masks)
        scores, logits = np.empty(shape, np.float32), np.empty((*shape, side, side), np.float32)
        for batch in prompts.batches(embedding.frame, limit=limit):
            found = self.decode(embedding, batch, slots)
            if len(batch.indices) == len(prompts):
                return found  # without a copy: they are in order
            scores[batch.indices], logits[batch.indices] = found
        return scores, logits

    def decode(
        self, embedding: Embedding, batch: PromptBatch, slots: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run both stages for the masks of some prompts, as one run where that is possible.

        Args:
            embedding: A completed embedding.
            batch: At most ``PROMPTS_PER_RUN`` prompts, or ``PROMPTS_PER_FUSED_RUN`` where one run
                does both stages.
            slots: ``contract.SINGLE`` or ``contract.MULTIPLE``.

        Returns:
            (n, masks) predicted IoUs and (n, masks, h, w) low-resolution logits.
        """
        if self._picks_best(slots):
            return self._decode_best(embedding, batch)
        if self._picks_stable(slots):
            return self._decode_stable(embedding, batch)
        scores, logits = self._decode_slots(embedding, batch, slots)
        return scores[:, slots], logits

    def _decode_slots(
        self, embedding: Embedding, batch: PromptBatch, slots: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode the predicted IoUs of all slots, and the logits of some."""
        both = self.graphs.decode_above(*self._prompt_inputs(embedding, batch), MasksAbove(slots))
        if both is not None:
            return both["iou_predictions"], both["low_res_logits"]
        tokens = self.tokens(embedding, batch)
        return tokens.iou_predictions, self.logits(tokens, slots)

    def _prompts_per_run(self, slots: slice, *, masked: bool) -> int:
        """Return how many prompts ``decode`` takes at once: few where a run holds more of them."""
        chooses = self._picks_best(slots) or self._picks_stable(slots)
        fused = self.is_fused and not masked and not chooses
        return PROMPTS_PER_FUSED_RUN if fused else PROMPTS_PER_RUN

    def _picks_best(self, slots: slice) -> bool:
        return slots == MULTIPLE and self._rules.multiple == BEST

    def _picks_stable(self, slots: slice) -> bool:
        return slots == SINGLE and self._rules.single == STABLE

    def _decode_stable(
        self, embedding: Embedding, batch: PromptBatch
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode the single mask by the rule ``STABLE``, which looks at the logits of all slots."""
        scores, logits = self._decode_slots(embedding, batch, slice(0, MASK_SLOTS))
        return _of_slots(scores, logits, single_slots(logits, scores))

    def _decode_best(
        self, embedding: Embedding, batch: PromptBatch
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode the best-scored of the alternatives; the others are drawn if that saves a run."""
        inputs = self._prompt_inputs(embedding, batch)
        both = self.graphs.decode_above(*inputs, MasksAbove(MULTIPLE))
        if both is not None:
            scores, logits = both["iou_predictions"][:, MULTIPLE], both["low_res_logits"]
            return _of_slots(scores, logits, np.argmax(scores, axis=1))
        tokens = self.tokens(embedding, batch)
        best = MULTIPLE.start + np.argmax(tokens.iou_predictions[:, MULTIPLE], axis=1)[:, None]
        vectors = np.take_along_axis(tokens.mask_vectors, best[..., None], 1)
        chosen = replace(tokens, mask_vectors=vectors)
        return (
            np.take_along_axis(tokens.iou_predictions, best, 1),
            self.logits(chosen, slice(None)),
        )

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
        extent = drawn_extent(embedding.frame, self._rules, 4 * embedding.features.shape[-1])
        masks = MasksAbove(MULTIPLE, float(above), extent)
        both = self.graphs.decode_above(*self._prompt_inputs(embedding, batch), masks)
        if both is None:
            return self._decode_in_turn(embedding, batch, above)
        scores, logits = both["iou_predictions"][:, MULTIPLE], both["low_res_logits"]
        prompts, slots = self._passing(scores, above)
        if len(prompts) == 0:
            return None
        planes = prompts * logits.shape[1] + slots
        return FoundMasks(_planes(logits), planes, scores[prompts, slots], prompts)

    def _decode_in_turn(
        self, embedding: Embedding, batch: PromptBatch, above: np.float32
    ) -> FoundMasks | None:
        tokens = self.tokens(embedding, batch)
        scores = tokens.iou_predictions[:, MULTIPLE]
        prompts, slots = self._passing(scores, above)
        if len(prompts) == 0:
            return None
        survivors, rows = np.unique(prompts, return_inverse=True)
        logits = self.logits(tokens[survivors], MULTIPLE)
        planes = rows * logits.shape[1] + slots
        return FoundMasks(_planes(logits), planes, scores[prompts, slots], prompts)

    def _passing(
        self, scores: NDArray[np.float32], above: np.float32
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return prompt and slot of each mask above the bound, of scores (n, 3)."""
        passing = scores > above
        if self._rules.multiple == BEST:
            passing &= np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
        prompts, slots = np.nonzero(passing)
        return prompts, slots

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
        logits: NDArray[np.float32] = self.graphs.run("mask_head", inputs)["low_res_logits"]
        return logits

    def _prompt_inputs(
        self, embedding: Embedding, batch: PromptBatch
    ) -> tuple[str, dict[str, Array]]:
        """Return the name and the inputs of the decoder for some prompts."""
        name = "decoder" if batch.mask_input is None else "decoder_mask"
        inputs = self._shared_inputs(name, embedding.state or {})
        inputs |= {"point_coords": batch.point_coords, "point_labels": batch.point_labels}
        if batch.mask_input is not None:
            inputs["mask_input"] = batch.mask_input
        return name, inputs

    @cached_property
    def _state_runs_on(self) -> str:
        return self.graphs.runs_on("image_state")

    def _shared_inputs(self, name: str, state: Mapping[str, Array]) -> dict[str, Array]:
        """Choose the inputs of a graph that all prompts of an image share."""
        names = self._input_names.get(name)
        if names is None:
            names = tuple(tensor.name for tensor in self.graphs[name].graph.inputs)
            self._input_names[name] = names
        return {wanted: state[wanted] for wanted in names if wanted in state}


def _planes(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reshape (prompts, masks, h, w) to (prompts * masks, h, w)."""
    return logits.reshape(-1, *logits.shape[2:])


def _of_slots(
    scores: NDArray[np.float32], logits: NDArray[np.float32], slots: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Take one slot (n,) of each prompt, of (n, m) scores and (n, m, h, w) logits."""
    chosen = slots[:, None]
    return (
        np.take_along_axis(scores, chosen, 1),
        np.take_along_axis(logits, chosen[..., None, None], 1),
    )
