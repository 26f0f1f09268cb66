"""One image, ready for the prompts of a network that takes them as channels."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastseg.backends.fork_safety import in_child
from fastseg.errors import EmbeddingError
from fastseg.geometry import Frame
from fastseg.guided.zoom import Region
from fastseg.timings import Timings

MEMORY_BYTES = 256 * 2**20
"""Most bytes of masks that an image remembers; the last one stays whatever its size."""

Points = tuple[tuple[float, float, int], ...]
"""The points of a prompt in their order: x, y and label."""


@dataclass(frozen=True, slots=True, eq=False)
class PointAnswer:
    """The mask after some points, from which the next point goes on."""

    probabilities: NDArray[np.float32]
    """(height, width) of the image."""

    region: Region | None
    """The part that the network saw; None before it saw a part."""


class PointMemory:
    """Masks of the prompts of one image, the latest used ones. Safe in several threads.

    It saves runs of the network and changes no mask: a prompt without an entry is computed anew.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Points, PointAnswer] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        in_child(self, PointMemory._unlock)

    def longest(self, points: Points) -> tuple[int, PointAnswer | None]:
        """Find the longest beginning of a prompt that is known, and count its points."""
        with self._lock:
            for count in range(len(points), 0, -1):
                if (found := self._known.get(points[:count])) is not None:
                    self._known.move_to_end(points[:count])
                    return count, found
        return 0, None

    def keep(self, points: Points, answer: PointAnswer) -> None:
        """Remember the mask after these points; the oldest ones are forgotten for it."""
        with self._lock:
            before = self._known.pop(points, None)
            self._bytes -= 0 if before is None else before.probabilities.nbytes
            self._known[points] = answer
            self._bytes += answer.probabilities.nbytes
            while self._bytes > MEMORY_BYTES and len(self._known) > 1:
                self._bytes -= self._known.popitem(last=False)[1].probabilities.nbytes

    def __len__(self) -> int:
        """Count the masks that are remembered."""
        return len(self._known)

    def _unlock(self) -> None:
        """Make the lock new in a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class GuidedImage:
    """One image in the form that its model's network takes, as ``embed`` returns it."""

    pixels: NDArray[np.float32]
    """(channels, h, w) normalised, and resized where the model asks for it."""

    frame: Frame
    """The size of the image; its square has no meaning for these networks."""

    model: str
    """sha256 of the network; no other one takes the image."""

    memory: PointMemory = field(default_factory=PointMemory)
    """The masks of the prompts so far."""

    timings: Timings = field(default_factory=Timings)
    """Times of the call that made it."""

    def __repr__(self) -> str:
        """Name size and model; the arrays would fill the screen."""
        height, width = self.frame.image
        return f"<GuidedImage: {height} x {width} pixels, network {self.model[:12]}>"

    def require(self, model: str) -> None:
        """Check that the network with this sha256 made it.

        Raises:
            EmbeddingError: Another network made it.
        """
        if self.model != model:
            raise EmbeddingError(
                f"This image was prepared for the network {self.model[:12]}, not for {model[:12]}. "
                "Embed the image with the model that segments it."
            )
