"""A classifier of masks by the nearest of a few named examples, on the encoder's features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.contract import Array
from fastseg.errors import EmbeddingError, MaskError, PromptError
from fastseg.images import ImageSource
from fastseg.inputs.numbers import real_array, real_number, shown
from fastseg.inputs.text import texts
from fastseg.masks import Masks
from fastseg.sam.embedding import Embedding
from fastseg.sam.model import Sam
from fastseg.storage.archives import read_archive
from fastseg.storage.atomic import atomic_file

FORMAT = 1
"""Version of the file that ``save`` writes."""

UNKNOWN = "unknown"
"""Name of masks that are near to no prototype."""

_ENTRIES = ("format", "vectors", "names", "model")


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Named directions in the feature space of an encoder; callable as ``everything``'s classify.

    A mask's embedding is the mean of the image embedding under the mask, of length 1. A prototype
    is the mean of the embeddings of its examples, again of length 1 (Snell et al. 2017, with the
    cosine instead of the distance). No text model is needed, and nothing is trained.
    """

    sam: Sam
    """The model that embeds the images."""

    names: tuple[str, ...]
    """(k,) name of each prototype, each once."""

    vectors: NDArray[np.float32] = field(repr=False)
    """(k, 256) of length 1."""

    least_similarity: float = -1.0
    """Cosine, -1..1, that a mask must reach to get a name; below it is ``unknown``."""

    unknown: str = UNKNOWN
    """Name of masks below ``least_similarity``."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            EmbeddingError: ``sam`` is no model that takes prompts, or ``vectors`` do not fit.
            PromptError: The similarity is no number, a name is no text, or two are equal.
        """
        _require_sam(self.sam)
        names = texts(self.names, "names", PromptError)
        if not names or len(set(names)) != len(names):
            raise PromptError(f"names must be some different texts, not {shown(self.names)}.")
        object.__setattr__(self, "names", names)
        vectors = real_array(self.vectors, "vectors", EmbeddingError)
        if vectors.ndim != 2 or len(vectors) != len(names) or not np.isfinite(vectors).all():
            raise EmbeddingError(
                f"vectors must be finite and one for each of the {len(names)} names, not of the "
                f"shape {vectors.shape}."
            )
        object.__setattr__(self, "vectors", vectors.astype(np.float32))
        least = real_number(self.least_similarity, "least_similarity", PromptError)
        object.__setattr__(self, "least_similarity", least)
        if not isinstance(self.unknown, str) or not self.unknown.strip():
            raise PromptError(f"unknown must be a name, not {shown(self.unknown)}.")

    @staticmethod
    def of_examples(
        sam: Sam,
        examples: Iterable[tuple[ImageSource | Embedding, Masks]],
        *,
        least_similarity: float = -1.0,
        unknown: str = UNKNOWN,
    ) -> Prototypes:
        """Make a prototype of each name among some examples.

        Args:
            sam: The model that embeds the images, here and later.
            examples: Images, or embeddings of them, each with masks that have names:
                ``sam.segment(image, boxes=..., names=...).best()`` for one.
            least_similarity: Cosine, -1..1, that a mask must reach to get a name.
            unknown: Name of the others.

        Raises:
            MaskError: A mask has no name or no pixel, is of another image, there is none, or the
                examples are no pairs.
            EmbeddingError: Another model made an embedding, or ``sam`` takes no prompts.
            ImageError: An image cannot be used.
        """
        _require_sam(sam)
        found: dict[str, list[NDArray[np.float64]]] = {}
        for image, masks in _pairs(examples):
            if not isinstance(masks, Masks) or masks.names is None:
                raise MaskError("the masks of an example need names. Give them: names=[...].")
            if not masks.areas.all():
                raise MaskError("a mask of an example has no pixel. Leave it out.")
            embedding = image if isinstance(image, Embedding) else sam.embed(image)
            embedding.require(*sam.encoders)
            for name, vector in zip(masks.names, mask_embeddings(embedding, masks), strict=True):
                found.setdefault(name, []).append(vector)
        if not found:
            raise MaskError("there is no example. Give images with named masks.")
        means = np.array([np.mean(vectors, axis=0) for vectors in found.values()])
        vectors = _unit(means).astype(np.float32)
        return Prototypes(sam, tuple(found), vectors, least_similarity, unknown)

    def __call__(self, image: ImageSource, masks: Masks) -> tuple[list[str], NDArray[np.float32]]:
        """Name masks of an image, which is embedded for it.

        Returns:
            As ``from_embedding``.

        Raises:
            ImageError: The image cannot be used.
            MaskError: The masks are of another size than the image.
        """
        return self.from_embedding(self.sam.embed(image), masks)

    def from_embedding(
        self, embedding: Embedding, masks: Masks
    ) -> tuple[list[str], NDArray[np.float32]]:
        """Name masks of an image that was embedded before.

        Returns:
            The name of the nearest prototype for each mask, and (n,) the cosines to them, -1..1. A
            mask without a pixel in the embedded part of the image is ``unknown``, its cosine 0.

        Raises:
            EmbeddingError: Another model made the embedding, or it is none.
            MaskError: The masks are of another size than the image, or are none.
        """
        if not isinstance(embedding, Embedding):
            raise EmbeddingError(f"the embedding must be one of embed(), not {shown(embedding)}.")
        embedding.require(*self.sam.encoders)
        vectors = mask_embeddings(embedding, masks)
        cosines = vectors @ self.vectors.T.astype(np.float64)
        nearest = cosines.argmax(axis=1)
        best = cosines[np.arange(len(masks)), nearest]
        known = (best >= self.least_similarity) & vectors.any(axis=1)
        names = [
            self.names[place] if sure else self.unknown
            for place, sure in zip(nearest, known, strict=True)
        ]
        return names, best.astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write names, vectors and the hash of the encoder to one ``.npz`` file, whole or not.

        Args:
            path: The file; an existing one is replaced.

        Raises:
            OutputError: It cannot be written.
        """
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                format=np.int64(FORMAT),
                vectors=self.vectors,
                names=np.array(self.names),
                model=np.array(self.sam.encoder_sha256),
            )

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        sam: Sam,
        *,
        least_similarity: float = -1.0,
        unknown: str = UNKNOWN,
    ) -> Prototypes:
        """Read a file of ``save``. Nothing in the file is executed.

        Args:
            path: The file.
            sam: The model that made the prototypes.
            least_similarity: As in ``of_examples``.
            unknown: As in ``of_examples``.

        Raises:
            EmbeddingError: There is no such file, it is damaged, holds no prototypes, or those of
                another encoder.
        """
        _require_sam(sam)
        remedy = "Make the prototypes again."
        arrays = read_archive(
            path, _ENTRIES, what="a file of prototypes", remedy=remedy, error=EmbeddingError
        )
        if not _is_whole(arrays):
            raise EmbeddingError(
                f"{path} is damaged, or newer than this fastseg. {remedy[:-1]}, or upgrade fastseg."
            )
        if str(arrays["model"]) not in sam.encoders:
            raise EmbeddingError(
                f"{path} holds prototypes of the encoder {str(arrays['model'])[:12]}, not of "
                f"{sam.encoder_sha256[:12]}. Make them again with the model that is to use them."
            )
        names = texts(arrays["names"], "names", EmbeddingError)
        return Prototypes(sam, names, arrays["vectors"], least_similarity, unknown)


def mask_embeddings(embedding: Embedding, masks: Masks) -> NDArray[np.float64]:
    """Average an image's embedding under each mask.

    Every pixel counts for the cell of the embedding that its middle lies in.

    Args:
        embedding: Of the image, or of a crop of it, outside of which masks do not count.
        masks: n masks of the image.

    Returns:
        (n, 256) of length 1; zeros for a mask without a pixel there.

    Raises:
        MaskError: The masks are of another size than the image, or are none.
    """
    if not isinstance(masks, Masks):
        raise MaskError(f"masks must be those of a model, not {shown(masks)}.")
    frame = embedding.frame
    if masks.size != frame.image:
        (height, width), (rows, columns) = masks.size, frame.image
        raise MaskError(
            f"the masks are of {width} x {height} pixels and the image has {columns} x {rows}. "
            "Give the image that they were made of."
        )
    grid = embedding.features.shape[1]
    x0, y0, x1, y1 = frame.crop_box
    columns_of = _cells(x1 - x0, frame.resized[1] / frame.side * grid)
    rows_of = _cells(y1 - y0, frame.resized[0] / frame.side * grid)
    cells = embedding.features.reshape(len(embedding.features), -1).astype(np.float64)
    sums = np.empty((len(masks), len(cells)))
    for index, mask in enumerate(masks):
        down, right = np.nonzero(mask.array()[0, y0:y1, x0:x1])
        places = rows_of[down] * grid + columns_of[right]
        sums[index] = cells @ np.bincount(places, minlength=grid * grid)
    return _unit(sums)


def _require_sam(model: object) -> None:
    if not isinstance(model, Sam):
        raise EmbeddingError(
            f"prototypes need a model that takes prompts, as of fastseg.load, not {shown(model)}."
        )


def _pairs(examples: object) -> Iterator[tuple[Any, Any]]:
    """Yield the image and the masks of each example."""
    if not isinstance(examples, Iterable) or isinstance(examples, np.ndarray):
        raise MaskError(f"examples must be pairs of an image and masks, not {shown(examples)}.")
    for example in examples:
        if not isinstance(example, tuple | list) or len(example) != 2:
            raise MaskError(f"an example is a pair of an image and masks, not {shown(example)}.")
        image, masks = example
        yield image, masks


def _cells(pixels: int, cells: float) -> NDArray[np.intp]:
    """Return the cell of each pixel along one side that ``cells`` cells cover."""
    middles = (np.arange(pixels) + 0.5) / pixels
    places: NDArray[np.intp] = np.minimum(middles * cells, np.ceil(cells) - 1).astype(np.intp)
    return places


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale vectors (n, d) to length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = vectors / np.where(lengths > 0, lengths, 1.0)
    return scaled


def _is_whole(arrays: dict[str, Array]) -> bool:
    """Tell if the entries of a file are those that ``save`` writes."""
    vectors, names = arrays["vectors"], arrays["names"]
    return (
        arrays["format"].shape == ()
        and int(arrays["format"]) == FORMAT
        and arrays["model"].dtype.kind == names.dtype.kind == "U"
        and names.ndim == 1
        and vectors.dtype == np.float32
        and vectors.shape == (len(names), 256)
        and len(set(names.tolist())) == len(names) > 0
        and bool(np.isfinite(vectors).all())
    )
