"""Unlabelled frames of a user's folder, read one by one as network inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import ops
from fastseg.echo.frames import look, read_frame
from fastseg.errors import ImageError
from fastseg.images import FORMATS

SIDE = 256
"""Side in pixels of the networks' square."""


@dataclass(frozen=True, slots=True)
class OwnFrames:
    """Frames in files; each is float32 (channels, 256, 256) in [0, 1], read at each access.

    Memory holds the paths alone, so there may be any number of them.
    """

    paths: tuple[Path, ...]
    channels: int
    """3 (luma and both chromas) or 1 (luma)."""
    cm_per_pixel: float | None = None
    """Size of a file's pixel; None takes the longer side of an image for 20 cm."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Read one frame: float32 (channels, 256, 256) in [0, 1]."""
        pixels = read_frame(self.paths[index], wanted=self.channels)
        view = look((pixels.shape[0], pixels.shape[1]), cm_per_pixel=self.cm_per_pixel)
        return ops.frame_input(pixels, view.window, SIDE, threads=1)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Read all frames in order."""
        return (self[index] for index in range(len(self)))

    @property
    def groups(self) -> list[str]:
        """Groups that training and validation must not divide: frames of one folder.

        Frames of one patient, who has a folder, resemble each other. If all lie in the same
        folder, each is taken for a patient of its own.
        """
        folders = [str(path.parent) for path in self.paths]
        return folders if len(set(folders)) > 1 else [str(path) for path in self.paths]


def find(
    folder: Path, channels: int, *, cm_per_pixel: float | None = None, most: int | None = None
) -> OwnFrames:
    """Find every image in a folder and in its sub-folders, in the order of their names.

    Each is read once now, so that a damaged one is named before hours of work and not after.

    Args:
        folder: The folder to search.
        channels: 3 or 1.
        cm_per_pixel: As in ``OwnFrames``.
        most: Greatest number of frames, evenly chosen.

    Raises:
        ImageError: There is no such folder, it holds no image, or one of them cannot be read.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder. Give the folder that holds the frames.")
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    paths = tuple(path for path in sorted(folder.rglob("*")) if path.suffix.lower() in known)
    if not paths:
        raise ImageError(f"{folder} holds no image. Save the frames as PNG files there.")
    if most is not None and most < len(paths):
        paths = tuple(paths[number * len(paths) // most] for number in range(most))
    frames = OwnFrames(paths, channels, cm_per_pixel)
    for _ in frames:
        pass
    return frames
