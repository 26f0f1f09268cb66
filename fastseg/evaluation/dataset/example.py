"""Examples: images with the objects that a person drew in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import imaging
from fastseg.errors import ImageError
from fastseg.images import MAX_PIXELS, read_image
from fastseg.imaging import MedicalImage

Size: TypeAlias = tuple[int, int]
Intensity: TypeAlias = Literal["file", "maximum"]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """One object in one image, as a person drew it: a binary task."""

    task: str
    """Name of the class."""

    name: str
    """Name of the object, unique in its image."""

    mask: NDArray[np.bool_]
    """(H, W), not empty."""

    labelled: NDArray[np.bool_]
    """(H, W) pixels of any class in the label map that the object comes from."""


class TruthSource(Protocol):
    """A file, or a part of one, that holds objects of one image."""

    def read(self, size: Size) -> tuple[list[Truth], list[str]]:
        """Read the objects of an image of (height, width).

        Returns:
            The objects, and the names of classes or files that are empty in this image.

        Raises:
            FastsegError: The file cannot be read, or does not fit the image.
        """
        ...


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """Settings that turn a file into the uint8 image that a model sees."""

    window: str | None = None
    """As ``window`` of ``fastseg.imaging.read``; None takes the file's own."""

    intensity: Intensity = "file"
    """``"maximum"`` divides every image by its largest value, as Mazurowski et al. do."""

    spacing: tuple[float, float] | None = None
    """Height and width of a pixel in mm, instead of the file's."""

    max_pixels: int | None = MAX_PIXELS
    """Largest height x width in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedExample:
    """An image with its objects, in memory."""

    name: str
    domain: str
    image: NDArray[np.uint8]  # (H, W, 3)
    spacing: tuple[float, float] | None  # height and width of a pixel in mm
    truths: tuple[Truth, ...]
    left_out: tuple[str, ...]
    """Objects whose truth is empty in this image."""

    phases: tuple[LoadedExample, ...] = ()
    """All phases of a case, this one first; their domains are the names of the phases."""


@dataclass(frozen=True, slots=True)
class Example:
    """The files of an image and of its objects; nothing of them is in memory."""

    name: str
    """Name in reports, unique in its dataset; it also seeds random choices."""

    path: Path
    """The image file, or the folder of a series."""

    frame: int | None
    """Frame of a file that has several, from 0."""

    sources: tuple[TruthSource, ...]
    domain: str = ""
    """Group of images within the dataset, such as a hospital; empty if there are none."""

    def load(self, view: ViewSettings) -> LoadedExample:
        """Read the image and its objects.

        Raises:
            FastsegError: A file cannot be read, or the two do not belong together.
        """
        image, spacing = _read_view(self.path, self.frame, view)
        truths: list[Truth] = []
        empty: list[str] = []
        for source in self.sources:
            found, without = source.read(image.shape[:2])
            truths += found
            empty += without
        names = tuple(_unique([truth.name for truth in truths]))
        renamed = tuple(
            Truth(truth.task, name, truth.mask, truth.labelled)
            for truth, name in zip(truths, names, strict=True)
        )
        if view.intensity == "maximum":
            image = divided_by_maximum(image)
        return LoadedExample(self.name, self.domain, image, spacing, renamed, tuple(empty))


@dataclass(frozen=True, slots=True)
class Case:
    """One patient or place in several images, such as the phases of a contrast agent."""

    name: str
    phases: tuple[Example, ...]
    """At least one; the domain of each is its phase."""

    @property
    def path(self) -> Path:
        """File of the first phase."""
        return self.phases[0].path

    @property
    def sources(self) -> tuple[TruthSource, ...]:
        """Files of all objects."""
        return tuple(source for phase in self.phases for source in phase.sources)

    def load(self, view: ViewSettings) -> LoadedExample:
        """Read all phases; the case is shown by its first one.

        Raises:
            FastsegError: A file cannot be read, or two do not belong together.
        """
        phases = tuple(phase.load(view) for phase in self.phases)
        left_out = tuple(f"{one.domain} {name}" for one in phases for name in one.left_out)
        return replace(phases[0], name=self.name, left_out=left_out, phases=phases)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples that are evaluated together, and what could not be made one."""

    name: str
    examples: tuple[Example | Case, ...]
    faults: tuple[str, ...] = ()
    """A sentence for each image without masks, and for each mask without an image."""


def divided_by_maximum(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch levels so that the largest becomes 255; fractions are cut off, as in the study."""
    largest = int(image.max(initial=0))
    if largest in (0, 255):
        return image
    stretched: NDArray[np.uint8] = (image / largest * 255).astype(np.uint8)
    return stretched


def read_volume(path: Path, window: str | None, max_pixels: int | None) -> MedicalImage:
    """Read a file of frames, which are asked for one after the other: the last two are kept.

    Raises:
        FastsegError: As ``fastseg.imaging.read``.
    """
    return _kept_volume(path, window, max_pixels, version(path))


def version(path: Path) -> tuple[int, int]:
    """Return time and size of a file, which change with its content; zeros if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=2)
def _kept_volume(
    path: Path, window: str | None, max_pixels: int | None, _version: tuple[int, int]
) -> MedicalImage:
    return imaging.read(path, window=window, max_pixels=max_pixels)


def _read_view(
    path: Path, frame: int | None, view: ViewSettings
) -> tuple[NDArray[np.uint8], tuple[float, float] | None]:
    is_plain = frame is None and path.is_file() and not imaging.is_medical(path)
    if is_plain and view.window is None:
        return read_image(path, max_pixels=view.max_pixels), view.spacing
    volume = read_volume(path, view.window, view.max_pixels)
    if frame is None and len(volume) > 1:
        raise ImageError(f"{path} has {len(volume)} frames, and its masks belong to one image.")
    image = volume[frame or 0]
    return read_image(image, max_pixels=None, name=str(path)), view.spacing or image.spacing


def _unique(names: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken.add(free)
        unique.append(free)
    return unique
