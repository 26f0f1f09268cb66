"""The decoder of SAM 2's mask generator, with its options for single masks and a second pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.rules import OutputRules
from fastseg.contract import MULTIPLE, SINGLE
from fastseg.inference.sessions import GraphRunner
from fastseg.sam.drawing import kept_logits
from fastseg.sam.embedding import Embedding
from fastseg.sam.prompts import PromptBatch
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN, FoundMasks, TwoStageDecoder


class RefiningDecoder(TwoStageDecoder):
    """Masks of points as the reference's generator makes them.

    Args:
        graphs: Of the folder.
        rules: Of the model.
        slots: Three masks a point, or the single one.
        refined: Decode every mask once more, with its own logits as a mask prompt.
        threshold: Logit above which a pixel is in a mask.
    """

    def __init__(
        self,
        graphs: GraphRunner,
        rules: OutputRules,
        *,
        slots: slice = MULTIPLE,
        refined: bool = False,
        threshold: float = 0.0,
    ) -> None:
        super().__init__(graphs, rules)
        self._output, self._slots = rules, slots
        self._refined, self._threshold = refined, threshold

    @property
    def is_fused(self) -> bool:
        """False: the stages run one after the other."""
        return False

    def decode_above(
        self, embedding: Embedding, batch: PromptBatch, above: np.float32
    ) -> FoundMasks | None:
        """Decode points, and keep the masks whose score is above a bound."""
        scores, logits = self.decode(embedding, batch, self._slots)
        if self._refined:
            scores, logits = self._again(embedding, batch, logits)
        prompts, slots = np.nonzero(scores > above)
        if len(prompts) == 0:
            return None
        # Masks are cut at 0: linear interpolation lets the threshold be taken off beforehand.
        flat = logits.reshape(-1, *logits.shape[2:]) - np.float32(self._threshold)
        planes = prompts * logits.shape[1] + slots
        return FoundMasks(flat, planes, scores[prompts, slots], prompts)

    def _again(
        self, embedding: Embedding, batch: PromptBatch, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode the single mask of each point with each of its masks as a prompt."""
        masks = logits.shape[1]
        kept = kept_logits(logits, self._output).reshape(-1, 1, *logits.shape[2:])
        owner = np.repeat(np.arange(len(batch.indices)), masks)
        parts = []
        for start in range(0, len(owner), PROMPTS_PER_RUN):
            part = slice(start, start + PROMPTS_PER_RUN)
            own = replace(
                batch,
                indices=owner[part],
                point_coords=batch.point_coords[owner[part]],
                point_labels=batch.point_labels[owner[part]],
                mask_input=np.ascontiguousarray(kept[part]),
            )
            parts.append(self.decode(embedding, own, SINGLE))
        scores, found = (np.concatenate(column) for column in zip(*parts, strict=True))
        return scores.reshape(-1, masks), found.reshape(logits.shape)
