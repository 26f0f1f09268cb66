"""The encoder's output for one image, kept for any number of prompts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.contract import Array
from fastseg.errors import EmbeddingError
from fastseg.geometry import Frame
from fastseg.imaging import preview
from fastseg.storage.archives import read_archive
from fastseg.storage.atomic import atomic_file
from fastseg.timings import Timings

FORMAT, FORMAT_WITH_MAPS = 1, 2
"""Versions of the file that ``save`` writes: for embeddings like those of SAM, and for others,
whose file also says whether the image was stretched, and holds ``maps``."""

_MAP = "map."
"""Beginning of the entries of ``maps``."""

_ENTRIES = ("format", "features", "frame", "model")
"""Entries of the file. ``frame`` is the image's height and width, the side of the square and, if
there is a crop, its x0, y0, x1, y1."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One image, or a crop of it, in the form that its model's decoder takes."""

    features: NDArray[np.float32]
    """(256, grid, grid) the encoder's main output."""

    frame: Frame
    """Position of the image's pixels in the model's square."""

    model: str
    """sha256 of the encoder's file; only the decoder of the same model understands ``features``."""

    state: Mapping[str, Array] | None = None
    """Arrays that the decoder computes once per image, by name; None after ``load``, and then
    computed when they are first needed."""

    state_of: str = ""
    """The runtime that made ``state``, ``"onnxruntime:cpu fp32"``, in a layout of its own."""

    maps: Mapping[str, Array] = field(default_factory=dict)
    """Further outputs of the encoder by name, which graphs of the decoder take: feature maps of
    higher resolution, for example. Empty for SAM."""

    timings: Timings = field(default_factory=Timings)
    """Times of the call that made it."""

    def __repr__(self) -> str:
        """Name size, crop and model; the arrays would fill the screen."""
        height, width = self.frame.image
        crop = "" if self.frame.crop is None else f", crop {self.frame.crop}"
        return f"<Embedding: {height} x {width} pixels{crop}, encoder {self.model[:12]}>"

    def _repr_png_(self) -> bytes:
        """Draw the main directions of the features as colours, for a notebook."""
        grid, side = self.features.shape[1], self.frame.side
        rows, columns = (-(-length * grid // side) for length in self.frame.resized)
        return preview.project(self.features[:, :rows, :columns])

    def require(self, *models: str) -> None:
        """Check that the encoder that made this has one of the sha256 in ``models``.

        Raises:
            EmbeddingError: Another encoder made it.
        """
        if self.model not in models:
            encoders = " or ".join(model[:12] for model in models)
            raise EmbeddingError(
                f"This embedding was made by the encoder {self.model[:12]}, not by "
                f"{encoders}. Embed the image with the model that segments it."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write features, frame and model to one ``.npz`` file, whole or not at all.

        Args:
            path: The file; an existing one is replaced.

        Raises:
            OutputError: It cannot be written.
        """
        frame = (*self.frame.image, self.frame.side, *(self.frame.crop or ()))
        more: dict[str, Any] = {f"{_MAP}{name}": array for name, array in self.maps.items()}
        plain = not more and not self.frame.stretched and self._is_of_patch_16
        if not plain:
            more["stretched"] = np.int64(self.frame.stretched)
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                format=np.int64(FORMAT if plain else FORMAT_WITH_MAPS),
                features=self.features,
                frame=np.array(frame, np.int64),
                model=np.array(self.model),
                **more,
            )

    @property
    def _is_of_patch_16(self) -> bool:
        return self.features.shape[1:] == (self.frame.side // 16, self.frame.side // 16)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Embedding:
        """Read a file of ``save``, bit for bit. Nothing in the file is executed.

        Args:
            path: The file.

        Raises:
            EmbeddingError: There is no such file, it is damaged, or it is no embedding.
        """
        arrays = read_archive(
            path, _ENTRIES, what="an embedding", remedy="Embed the image again.",
            error=EmbeddingError, also=_is_optional,
        )  # fmt: skip
        if (embedding := _from_arrays(arrays)) is None:
            raise EmbeddingError(
                f"{path} is damaged, or newer than this fastseg. Embed the image again, or "
                "upgrade fastseg."
            )
        return embedding


def _is_optional(name: str) -> bool:
    return name == "stretched" or name.startswith(_MAP)


def _from_arrays(arrays: Mapping[str, Array]) -> Embedding | None:
    """Make the embedding of a file's entries, or None if they contradict each other."""
    features, frame, model = arrays["features"], arrays["frame"], arrays["model"]
    version = int(arrays["format"]) if arrays["format"].shape == () else 0
    if version not in (FORMAT, FORMAT_WITH_MAPS) or model.dtype.kind != "U":
        return None
    if frame.dtype != np.int64 or frame.shape not in ((3,), (7,)):
        return None
    height, width, side, *crop = (int(value) for value in frame)
    x0, y0, x1, y1 = crop or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and side > 0):
        return None
    grid = side // 16 if version == FORMAT or features.ndim != 3 else features.shape[1]
    if features.dtype != np.float32 or features.shape != (256, grid, grid):
        return None
    stretched = arrays.get("stretched", np.int64(0))
    maps = {
        name.removeprefix(_MAP): array for name, array in arrays.items() if name.startswith(_MAP)
    }
    if stretched.shape != () or any(array.dtype != np.float32 for array in maps.values()):
        return None
    placed = Frame((height, width), side, (x0, y0, x1, y1) if crop else None, bool(stretched))
    return Embedding(features, placed, str(model), maps=maps)
