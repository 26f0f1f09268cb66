"""What the encoder saw in one picture, kept for any number of prompts."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastseg.contract import Array
from fastseg.errors import EmbeddingError
from fastseg.geometry import Frame
from fastseg.storage.atomic import atomic_file
from fastseg.timings import Timings

FORMAT = 1
"""Version of the file that ``save`` writes."""

_ENTRIES = ("format", "features", "frame", "model")
"""What the file holds. ``frame`` is the picture's height and width, the side of the square and, if
there is a crop, its x0, y0, x1, y1."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One picture, or a crop of it, as its model's decoder takes it."""

    features: NDArray[np.float32]
    """(256, grid, grid) the encoder's output."""

    frame: Frame
    """Where the picture's pixels are in the model's square."""

    model: str
    """sha256 of the encoder's file; only the decoder of the same model understands ``features``."""

    state: Mapping[str, Array] | None = None
    """What the decoder computes once per picture, by name; None after ``load``, and then computed
    when it is first needed."""

    state_of: str = ""
    """What ``state`` was made by, ``"onnxruntime:cpu fp32"``: its layout is that runtime's own."""

    timings: Timings = field(default_factory=Timings)
    """How long it took to make."""

    def require(self, *models: str) -> None:
        """Check that a model made this whose encoder has one of the sha256 in ``models``.

        Raises:
            EmbeddingError: Another model did.
        """
        if self.model not in models:
            encoders = " or ".join(model[:12] for model in models)
            raise EmbeddingError(
                f"This embedding was made by the encoder {self.model[:12]}, not by "
                f"{encoders}. Embed the picture with the model that segments it."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write features, frame and model to one ``.npz`` file, whole or not at all.

        Args:
            path: The file; an existing one is replaced.

        Raises:
            OutputError: It cannot be written.
        """
        frame = (*self.frame.image, self.frame.side, *(self.frame.crop or ()))
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                format=np.int64(FORMAT),
                features=self.features,
                frame=np.array(frame, np.int64),
                model=np.array(self.model),
            )

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Embedding:
        """Read what ``save`` wrote, bit for bit. Nothing in the file is executed.

        Args:
            path: The file.

        Raises:
            EmbeddingError: There is no such file, it is damaged, or it is no embedding.
        """
        try:
            # np.load would also take a pickle or a bare array; only an archive is ours.
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            with np.load(Path(path), allow_pickle=False) as entries:
                arrays = {name: entries[name] for name in _ENTRIES}
        except Exception as error:  # damage shows as whatever the readers stumble over
            raise EmbeddingError(
                f"{path} is not an embedding that can be read: {error}. Embed the picture again."
            ) from error
        if damaged is not None or (embedding := _from_arrays(arrays)) is None:
            raise EmbeddingError(
                f"{path} is damaged, or newer than this fastseg. Embed the picture again, or "
                "upgrade fastseg."
            )
        return embedding


def _from_arrays(arrays: Mapping[str, Array]) -> Embedding | None:
    """The embedding that the entries of a file describe, or None if they contradict themselves."""
    features, frame, model = arrays["features"], arrays["frame"], arrays["model"]
    if arrays["format"].shape != () or int(arrays["format"]) != FORMAT or model.dtype.kind != "U":
        return None
    if frame.dtype != np.int64 or frame.shape not in ((3,), (7,)):
        return None
    height, width, side, *crop = (int(value) for value in frame)
    x0, y0, x1, y1 = crop or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and side > 0):
        return None
    if features.dtype != np.float32 or features.shape != (256, side // 16, side // 16):
        return None
    placed = Frame((height, width), side, (x0, y0, x1, y1) if crop else None)
    return Embedding(features, placed, str(model))
