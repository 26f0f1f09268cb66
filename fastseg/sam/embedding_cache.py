"""A cache of embeddings: an image that comes back is not encoded again."""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import EmbeddingError, OutputError
from fastseg.images import Channels, ImageSource, read_image
from fastseg.inference.loaded_model import LoadedModel
from fastseg.inputs.numbers import shown, whole_number
from fastseg.sam.embedding import Embedding
from fastseg.sam.model import Sam
from fastseg.sam.preprocessing import Crop, checked_crop
from fastseg.storage.cache import CacheFolder
from fastseg.storage.paths import user_path
from fastseg.timings import Timings

KEYS = 2
"""Version of the keys. Raise it when the same image is prepared otherwise, so that earlier
embeddings are not found."""


class CacheStatistics(NamedTuple):
    """Hits and misses of an ``EmbeddingCache``, and the bytes that it holds."""

    hits: int
    """Embeddings that were found, in memory or in the folder."""

    misses: int
    """Embeddings that had to be made."""

    memory_bytes: int
    """Held in memory now."""

    folder_bytes: int
    """Held in the folder now, by every process that shares it."""


class EmbeddingCache:
    """Embeddings by image and model, in memory and, if wanted, in a folder that outlives it.

    The key of an embedding is made of the image's pixels, so a file, its bytes and its array are
    one; of the crop; and of the model's encoder, preprocessing, runtime and precision, so a found
    embedding equals a new one. The least recently used ones are dropped where room is short.

    Safe in several threads, and any number of processes may share the folder; two that want the
    same new image at the same time both encode it. A damaged file is made again. A folder that
    cannot be written, or a full disk, is warned of once; from then on new embeddings are kept in
    memory alone.

    Embeddings reveal the image: keep the folder as private as the images themselves.

    Args:
        folder: The folder that keeps embeddings for the next process, 4 MB for an image of SAM's
            size; made if it is missing. None keeps them in memory alone.
        max_bytes: Most that the memory may hold, and most that the folder may hold.

    Raises:
        EmbeddingError: ``max_bytes`` is no integer of at least 0.
        OutputError: ``folder`` is no path.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, max_bytes: int = 2**30
    ) -> None:
        self.max_bytes = whole_number(max_bytes, "max_bytes", EmbeddingError, least=0)
        """Most that the memory may hold, and most that the folder may hold."""
        self._folder = (
            None if folder is None else CacheFolder(user_path(folder), self.max_bytes, ".npz")
        )
        self._writes = folder is not None
        self._held: OrderedDict[str, Embedding] = OrderedDict()
        self._held_bytes = 0
        self._hits = self._misses = 0
        self._lock = threading.Lock()

    def embed(
        self,
        model: Sam,
        image: ImageSource,
        *,
        channels: Channels = "rgb",
        crop: tuple[int, int, int, int] | None = None,
    ) -> Embedding:
        """Return the result of ``model.embed``; run the encoder only if it has not run before.

        Args:
            model: A loaded model that takes prompts.
            image: As in ``Sam.embed``.
            channels: As in ``Sam.embed``.
            crop: As in ``Sam.embed``.

        Returns:
            An embedding whose arrays are read-only, since other callers may share them. Its
            timings are empty where it was found.

        Raises:
            ImageError: The image cannot be used.
            EmbeddingError: ``model`` is no loaded model.
            ModelFolderError: The model takes no prompts.
        """
        if not isinstance(model, LoadedModel):
            raise EmbeddingError(
                f"models make embeddings, not {shown(model)}. Give what fastseg.load returned."
            )
        pixels = read_image(image, channels=channels, max_pixels=model.max_pixels)
        key = _key(model, pixels, crop)
        found = self._in_memory(key) or self._in_folder(key, model)
        with self._lock:
            self._hits += found is not None
            self._misses += found is None
        if found is not None:
            return found
        made = model.embed(pixels, crop=crop)
        self._remember(key, made)
        self._keep(key, made)
        return made

    @property
    def statistics(self) -> CacheStatistics:
        """Hits and misses of this object, and the bytes that memory and folder hold now."""
        in_folder = 0 if self._folder is None else self._folder.bytes
        with self._lock:
            return CacheStatistics(self._hits, self._misses, self._held_bytes, in_folder)

    def clear(self) -> None:
        """Forget every embedding, those in the folder too; the statistics go on."""
        with self._lock:
            self._held.clear()
            self._held_bytes = 0
        if self._folder is not None:
            self._folder.clear()

    def _in_memory(self, key: str) -> Embedding | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def _in_folder(self, key: str, model: Sam) -> Embedding | None:
        if self._folder is None:
            return None
        found = self._folder.get(key, lambda path: _read(path, model))
        if found is not None:
            # A file holds the encoder's output alone; what prompts share is quickly made of it.
            found = model.decoder.complete(found)
            self._remember(key, found)
        return found

    def _remember(self, key: str, embedding: Embedding) -> None:
        for array in (embedding.features, *(embedding.state or {}).values()):
            array.flags.writeable = False
        with self._lock:
            if (before := self._held.pop(key, None)) is not None:
                self._held_bytes -= _bytes(before)
            self._held[key] = replace(embedding, timings=Timings())
            self._held_bytes += _bytes(embedding)
            while self._held_bytes > self.max_bytes:
                self._held_bytes -= _bytes(self._held.popitem(last=False)[1])

    def _keep(self, key: str, embedding: Embedding) -> None:
        if self._folder is None or not self._writes:
            return
        try:
            self._folder.put(key, embedding.save)
        except OutputError as error:
            self._writes = False
            warnings.warn(
                f"Embeddings are kept in memory alone from here on: {error}",
                RuntimeWarning,
                stacklevel=3,
            )


def _key(model: Sam, pixels: NDArray[np.uint8], crop: Crop | None) -> str:
    """Hash everything that an embedding depends on."""
    parts = (
        KEYS,
        model.manifest.image_preprocessing,
        model.encoder_sha256,
        (model.runs["encoder"], model.runs["image_state"]),
        pixels.shape,
        checked_crop(crop, *pixels.shape[:2]),
    )
    found = sha256(repr(parts).encode())
    found.update(pixels.data)
    return found.hexdigest()


def _read(path: Path, model: Sam) -> Embedding:
    embedding = Embedding.load(path)
    embedding.require(model.encoder_sha256)
    return embedding


def _bytes(embedding: Embedding) -> int:
    arrays = (embedding.features, *(embedding.state or {}).values())
    return sum(array.nbytes for array in arrays)
