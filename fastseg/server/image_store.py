"""Open images: frames, their embeddings, and when each is closed."""

from __future__ import annotations

import hmac
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from fastseg.imaging import MedicalImage
from fastseg.sam.embedding import Embedding
from fastseg.server.refusals import RefusalError
from fastseg.server.settings import Limits


class OpenImage:
    """One image that a client has opened: its frames and the embeddings made of them.

    Args:
        image: The frames.
        name: Name that the client gave, for messages and exports.
        owner: Token of the client, empty without tokens.
        folder: A folder with the uploaded file, which is removed when the image is closed.
    """

    def __init__(
        self, image: MedicalImage, name: str, owner: str = "", folder: Path | None = None
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.image = image
        self.name = name
        self.owner = owner
        self.used = time.monotonic()
        self._folder = folder
        self._embeddings: OrderedDict[int, Embedding] = OrderedDict()
        self._embedding = threading.Lock()
        self._table = threading.Lock()

    def frame(self, number: int) -> MedicalImage:
        """Return one frame.

        Raises:
            RefusalError: There is no such frame.
        """
        if not 0 <= number < len(self.image):
            raise RefusalError(404, f"{self.name} has {len(self.image)} frames, from 0.")
        return self.image[number]

    def embedding(self, number: int, embed: Callable[[MedicalImage], Embedding]) -> Embedding:
        """Return the embedding of a frame, made at most once however many ask at a time."""
        frame = self.frame(number)
        with self._embedding:
            with self._table:
                found = self._embeddings.pop(number, None)
            found = found or embed(frame)
            with self._table:
                self._embeddings[number] = found  # at the end, as the last one used
        return found

    def has_embedding(self, number: int) -> bool:
        """Tell if a frame is embedded."""
        return number in self._embeddings

    def drop_embedding(self) -> bool:
        """Forget the embedding that was used longest ago, but for the last one."""
        with self._table:
            if len(self._embeddings) < 2:
                return False
            self._embeddings.popitem(last=False)
            return True

    @property
    def bytes(self) -> int:
        """Memory of frames and embeddings."""
        with self._table:
            return self.image.stored.nbytes + sum(map(_size, self._embeddings.values()))

    def close(self) -> None:
        """Remove the uploaded file, and forget the embeddings."""
        with self._table:
            self._embeddings.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class ImageStore:
    """All open images; the least used are closed where their number, memory or time runs out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._images: OrderedDict[str, OpenImage] = OrderedDict()
        self._lock = threading.Lock()
        self.closed = 0
        """Images that were closed so far."""

    def __len__(self) -> int:
        """Count the open images."""
        return len(self._images)

    @property
    def bytes(self) -> int:
        """Memory of all open images."""
        with self._lock:
            return sum(one.bytes for one in self._images.values())

    def add(self, image: OpenImage) -> None:
        """Take an image, and close others if there is no room.

        Raises:
            RefusalError: It is larger than all images may be together.
        """
        if image.bytes > self._limits.max_memory:
            image.close()
            raise RefusalError(
                413,
                f"{image.name} takes {image.bytes:,} bytes, more than all open images may "
                f"({self._limits.max_memory:,}). Open a part of it.",
            )
        with self._lock:
            self._images[image.id] = image
        self.trim()

    def get(self, number: str, owner: str = "") -> OpenImage:
        """Find an open image of a client, and note its use.

        Raises:
            RefusalError: The client has no such image open.
        """
        with self._lock:
            found = self._images.get(number)
            if found is None or not _same(found.owner, owner):
                raise RefusalError(
                    404, "no image is open by this identifier: it was closed. Open it again."
                )
            found.used = time.monotonic()
            self._images.move_to_end(number)
            return found

    def owned(self, owner: str = "") -> list[OpenImage]:
        """List the images of a client, the least used first."""
        with self._lock:
            return [one for one in self._images.values() if _same(one.owner, owner)]

    def close(self, number: str, owner: str = "") -> None:
        """Close an image.

        Raises:
            RefusalError: The client has no such image open.
        """
        self.get(number, owner)
        self._remove(number)

    def trim(self) -> None:
        """Close images and forget embeddings until memory and number are within their limits."""
        while True:
            with self._lock:
                images = list(self._images.values())
            small = sum(one.bytes for one in images) <= self._limits.max_memory
            if not images or (small and len(images) <= self._limits.max_images):
                return
            if len(images) <= self._limits.max_images and images[0].drop_embedding():
                continue
            if len(images) == 1:
                return
            self._remove(images[0].id)

    def expire(self) -> None:
        """Close the images that were not used for their time."""
        end = time.monotonic() - self._limits.image_s
        with self._lock:
            late = [one.id for one in self._images.values() if one.used < end]
        for number in late:
            self._remove(number)

    def clear(self) -> None:
        """Close every image."""
        for number in list(self._images):
            self._remove(number)

    def _remove(self, number: str) -> None:
        with self._lock:
            found = self._images.pop(number, None)
        if found is not None:
            found.close()
            self.closed += 1


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _size(embedding: Embedding) -> int:
    arrays = (embedding.features, *(embedding.state or {}).values())
    return sum(int(getattr(array, "nbytes", 0)) for array in arrays)
