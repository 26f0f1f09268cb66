"""Names for the masks of everything mode, from a function of the caller or a classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import MaskError, PromptError
from fastseg.images import Channels, ImageSource, read_image
from fastseg.inputs.numbers import shown
from fastseg.masks import Masks
from fastseg.sam.embedding import Embedding
from fastseg.sam.mask_generator import MaskGenerator

Classifier: TypeAlias = Callable[[NDArray[np.uint8], Masks], Any]
"""Function that takes an image, uint8 (H, W, 3) RGB, and its masks, and returns a name for each, or
a tuple of the names and their scores (n,)."""


class EmbeddingClassifier(Protocol):
    """A classifier that needs the image's embedding alone, which everything mode has already."""

    def from_embedding(self, embedding: Embedding, masks: Masks) -> Any:
        """Return what a ``Classifier`` returns."""
        ...


def generate_named(
    generator: MaskGenerator,
    classify: Classifier | None,
    image: ImageSource,
    channels: Channels,
    max_pixels: int | None,
) -> Masks:
    """Generate the masks of an image and name them, unless there is no classifier.

    A classifier's time is in no timings.

    Raises:
        PromptError: ``classify`` is no function, or does not return a name for each mask.
    """
    if classify is None:
        return generator.generate(image, channels)
    if not callable(classify):
        raise PromptError(
            f"classify must be a function of an image and its masks, not {shown(classify)}. "
            "fastseg.Prototypes makes one of examples."
        )
    with generator.watch("preprocess"):
        pixels = read_image(image, channels=channels, max_pixels=max_pixels)
    generator.keeps_embedding = takes_embeddings(classify)
    masks = generator.generate(pixels, "rgb")
    if len(masks) == 0:
        return masks.with_names(())
    if takes_embeddings(classify) and generator.embedding is not None:
        return named(masks, classify.from_embedding(generator.embedding, masks))
    return named(masks, classify(pixels, masks))


def takes_embeddings(classify: object) -> TypeGuard[EmbeddingClassifier]:
    """Tell if a classifier can be given the image's embedding instead of the image."""
    return callable(getattr(classify, "from_embedding", None))


def named(masks: Masks, answer: object) -> Masks:
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
