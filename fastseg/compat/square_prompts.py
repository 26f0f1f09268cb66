"""Prompts in pixels of a model's square, as predictors of other libraries lay them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastseg.sam.embedding import Embedding
from fastseg.sam.prompts import PromptBatch
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN, TwoStageDecoder


@dataclass(frozen=True, slots=True)
class SquarePrompts:
    """Prompts of equally many points."""

    coords: NDArray[np.float32]  # (n, points, 2)
    labels: NDArray[np.int32]  # (n, points)
    masks: NDArray[np.float32] | None  # (n, 1, h, w)

    def batches(self) -> Iterator[PromptBatch]:
        """Yield batches as the decoder takes them."""
        count = len(self.coords)
        for start in range(0, count, PROMPTS_PER_RUN):
            places = np.arange(start, min(count, start + PROMPTS_PER_RUN))
            masks = None if self.masks is None else self.masks[places]
            yield PromptBatch(places, self.coords[places], self.labels[places], masks)

    def decode(
        self, decoder: TwoStageDecoder, embedding: Embedding, slots: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run both stages of the decoder on a completed embedding.

        Returns:
            (n, masks) predicted IoUs and (n, masks, h, w) low-resolution logits.
        """
        parts = [decoder.decode(embedding, batch, slots) for batch in self.batches()]
        scores, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
        return scores, logits
