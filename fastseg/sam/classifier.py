"""Names for the masks of everything mode, from a function of the caller or a classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import MaskError, PromptError
from fastseg.inputs.numbers import shown
from fastseg.masks import Masks
from fastseg.sam.embedding import Embedding

Classifier: TypeAlias = Callable[[NDArray[np.uint8], Masks], Any]
"""Function that takes an image, uint8 (H, W, 3) RGB, and its masks, and returns a name for each, or
a tuple of the names and their scores (n,)."""


class EmbeddingClassifier(Protocol):
    """A classifier that needs the image's embedding alone, which everything mode has already."""

    def from_embedding(self, embedding: Embedding, masks: Masks) -> Any:
        """Return what a ``Classifier`` returns."""
        ...


def require_classifier(classify: object) -> None:
    """Refuse what cannot be called.

    Raises:
        PromptError: ``classify`` is no function.
    """
    if not callable(classify):
        raise PromptError(
            f"classify must be a function of an image and its masks, not {shown(classify)}. "
            "fastseg.Prototypes makes one of examples."
        )


def name_masks(
    classify: Classifier, pixels: NDArray[np.uint8], embedding: Embedding | None, masks: Masks
) -> Masks:
    """Let a classifier name the masks of an image, by its embedding if that is at hand.

    Raises:
        PromptError: It does not return a name for each mask.
    """
    if len(masks) == 0:
        return masks.with_names(())
    if takes_embeddings(classify) and embedding is not None:
        return _named(masks, classify.from_embedding(embedding, masks))
    return _named(masks, classify(pixels, masks))


def takes_embeddings(classify: object) -> TypeGuard[EmbeddingClassifier]:
    """Tell if a classifier can be given the image's embedding instead of the image."""
    return callable(getattr(classify, "from_embedding", None))


def _named(masks: Masks, answer: object) -> Masks:
    """Give masks the names, and perhaps scores, that a classifier returned.

    Raises:
        PromptError: They are not as many as the masks, or no names.
    """
    names, scores = answer, None
    # Two masks may be named by a tuple of two texts.
    if isinstance(answer, tuple) and len(answer) == 2 and not isinstance(answer[0], str):
        names, scores = answer
    try:
        return masks.with_names(names, scores)  # type: ignore[arg-type]
    except MaskError as error:
        raise PromptError(
            f"classify must return a name for each mask, or (names, scores): {error}"
        ) from error
