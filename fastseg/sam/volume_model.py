"""The call ``propagate`` of models that take prompts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastseg.errors import PromptError
from fastseg.inputs.numbers import function_of_two_numbers, shown
from fastseg.masks import Masks
from fastseg.sam.embedding import Embedding
from fastseg.sam.propagation import Progress, Propagation
from fastseg.sam.visits import Visits
from fastseg.sam.volume_masks import Rule, VolumeMasks
from fastseg.sam.volume_prompts import (
    PropagationSettings,
    anchors_of,
    fingerprint,
    object_names,
)
from fastseg.sam.volume_slices import Volume, VolumeSlices


class EmbeddingSource(Protocol):
    """A cache of embeddings, as ``EmbeddingCache``."""

    def embed(self, model: Any, image: Any) -> Embedding:
        """Return the embedding of a slice."""
        ...


class SliceModel(Protocol):
    """The parts of a model that propagation needs."""

    encoder_sha256: str
    runs: Mapping[str, str]
    mask_side: int

    @property
    def embed(self) -> Callable[..., Embedding]:
        """Encodes one slice."""
        ...

    @property
    def segment(self) -> Callable[..., Masks]:
        """Decodes prompts on an encoded slice."""
        ...


class VolumeModel:
    """A model that follows objects through volumes."""

    def propagate(
        self: SliceModel,
        volume: Volume,
        *,
        start: int | None = None,
        points: ArrayLike | Sequence[Any] | None = None,
        labels: ArrayLike | Sequence[Any] | None = None,
        boxes: ArrayLike | None = None,
        mask_logits: ArrayLike | None = None,
        names: str | Sequence[str] | None = None,
        corrections: Mapping[int, Mapping[str, Any]] | None = None,
        axis: int = 0,
        rule: Rule = "best",
        margin: float = 3 / 256,
        min_score: float = 0.25,
        max_change: float = 4.0,
        max_shift: float = 2.0,
        multimask: bool = True,
        cache: EmbeddingSource | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> VolumeMasks:
        """Follow objects through a volume, from a prompted slice to both sides.

        One slice is read, encoded and decoded at a time, so memory does not grow with the volume.
        The box of the next slice comes from the mask of the last one (LiteMedSAM, Ma et al. 2024).
        An object ends in a direction where its mask is empty, unsure, changes its area too fast,
        or shows another brightness than on the prompted slice; ``VolumeMasks.stops`` tells.

        Args:
            volume: An image of ``fastseg.imaging.read``, or a path or array that it reads.
            start: The prompted slice; None is the middle one.
            points: A prompt for each object, as in ``segment``; likewise the next three.
            labels: Of the points.
            boxes: (4,) or (objects, 4) in pixels of the slice.
            mask_logits: Of the objects.
            names: A name for each object, which its masks carry.
            corrections: For other slices ``{slice: {"boxes": ..., "objects": [1]}}``: prompts as
                above, and the objects that they are for; all if left out. An object of a new number
                begins there. Each slice follows the nearest prompt.
            axis: Axis that slices are cut across: 0 frames, 1 rows, 2 columns. Pixels of unequal
                sides stay as they are.
            rule: Prompt of the next slice: ``"box"`` of the last mask, box and ``"logits"`` of it,
                ``"repeat"`` the given box, or ``"best"``: as ``"repeat"``, unless the mask of
                ``"box"`` has a score that is higher by more than 0.3.
            margin: Width that a mask's box is enlarged by on each side, as a share of the slice's
                longer side.
            min_score: Least score, as a share of the score on the prompted slice; 0 takes all.
            max_change: Most that an area may grow or shrink by from slice to slice, as a factor.
            max_shift: Most that the mean level in the mask may differ from that on the prompted
                slice, in standard deviations of the levels there (10 of 255 levels at least).
            multimask: Take the best-scored of three masks, or the single one.
            cache: An ``EmbeddingCache``, for volumes that are prompted again.
            checkpoint: File that a call keeps its state in until it is done. A call that finds it
                goes on from there, and gives the masks of one that was not interrupted.
            progress: Called as ``progress(done, slices)`` after each slice; False cancels, and the
                masks so far are returned.

        Raises:
            ImageError: The volume cannot be used, is several, or needs a window.
            MaskError: The checkpoint is damaged, or belongs to another call.
            PromptError: A prompt or a setting cannot be used.
        """
        settings = PropagationSettings(rule, margin, min_score, max_change, max_shift, multimask)
        slices = VolumeSlices.of(volume, axis)
        prompts = {"points": points, "labels": labels, "boxes": boxes, "mask_logits": mask_logits}
        anchors = anchors_of(start, prompts, corrections, slices, self.mask_side)
        called = None if names is None else object_names(names, anchors)
        if cache is not None and not callable(getattr(cache, "embed", None)):
            raise PromptError(f"cache must be an EmbeddingCache, not {shown(cache)}.")
        function_of_two_numbers(progress, "progress", PromptError)
        embed = self.embed if cache is None else partial(cache.embed, self)
        call = ""
        if checkpoint is not None:
            call = fingerprint(slices, anchors, settings, f"{self.encoder_sha256} {self.runs}")
        visits = Visits(checkpoint, call)
        work = Propagation(embed, self.segment, slices, anchors, settings, visits, progress)
        found = work.run()
        return found if called is None else found.with_names(called)
