"""Label maps: files whose numbers say which class a pixel belongs to, as binary tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import imaging
from fastseg.errors import ImageError, MaskError
from fastseg.evaluation.dataset.example import Size, Truth, read_volume
from fastseg.images import MAX_PIXELS, check_size
from fastseg.images.reader_faults import reader_faults

MOST_LABELS = 256
"""Labels of a map without declared classes; a photograph that was named by mistake has more."""

_LOSSY = frozenset(("JPEG", "MPO"))


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A label map, or one frame of it, that holds the objects of one image."""

    path: Path
    frame: int | None = None
    classes: Mapping[int, str] | None = None
    """Name of each label; None names them by their numbers."""

    task: str | None = None
    """Class of all that is not 0; None tells classes by their labels."""

    name: str | None = None
    """Name of the object if ``task`` is given; None is the task."""

    def read(self, size: Size) -> tuple[list[Truth], list[str]]:
        """Read the objects, as ``TruthSource`` says.

        Raises:
            ImageError: The file cannot be read.
            MaskError: It does not fit the image, or holds labels that are not declared.
        """
        labels = _fitting(self.path, self.frame, size)
        labelled = labels != 0
        if self.task is not None:
            return self._one(self.task, labelled, labelled)
        classes = self._declared(np.unique(labels[labelled]).tolist())
        truths, empty = [], []
        for label, task in classes.items():
            found, without = self._one(task, labels == label, labelled)
            truths += found
            empty += without
        return truths, empty

    def _one(
        self, task: str, mask: NDArray[np.bool_], labelled: NDArray[np.bool_]
    ) -> tuple[list[Truth], list[str]]:
        name = self.name or task
        return ([Truth(task, name, mask, labelled)], []) if mask.any() else ([], [name])

    def _declared(self, present: list[int]) -> Mapping[int, str]:
        if self.classes is not None:
            unknown = [label for label in present if label not in self.classes]
            if unknown:
                raise MaskError(
                    f"{self.path} holds {_listed(unknown)}, and the declared classes are "
                    f"{_listed(list(self.classes))}. Declare it, or correct the mask."
                )
            return self.classes
        if len(present) > MOST_LABELS:
            raise MaskError(
                f"{self.path} holds {len(present)} different labels, more than {MOST_LABELS}: it "
                "looks like an image, not a mask. Declare the classes if they are."
            )
        if present == [255]:
            return {255: "class 1"}
        return {label: f"class {label}" for label in present} or {1: "class 1"}


@dataclass(frozen=True, slots=True)
class OneLabel:
    """One label of a label map; the map may hold others, of which nothing is asked."""

    path: Path
    frame: int | None
    value: int
    task: str

    def read(self, size: Size) -> tuple[list[Truth], list[str]]:
        """Read the object, as ``TruthSource`` says.

        Raises:
            ImageError: The file cannot be read.
            MaskError: It does not fit the image.
        """
        labels = _fitting(self.path, self.frame, size)
        mask = labels == self.value
        found = [Truth(self.task, self.task, mask, labels != 0)] if mask.any() else []
        return found, [] if found else [self.task]


def read_labels(path: Path, frame: int | None = None) -> NDArray[np.int64]:
    """Read the labels of a mask file, (H, W).

    Palettes give their indices, colours are refused unless their channels are equal.

    Raises:
        ImageError: The file cannot be read, is lossy, or its values are no labels.
    """
    if path.is_file() and not imaging.is_medical(path):
        indexed = _palette_indices(path)
        if indexed is not None:
            return indexed
    volume = read_volume(path, None, MAX_PIXELS)
    if frame is None and len(volume) > 1:
        raise ImageError(f"{path} has {len(volume)} frames, and its image has one.")
    return _whole(volume.frame_values(frame or 0), path)


def _fitting(path: Path, frame: int | None, size: Size) -> NDArray[np.int64]:
    labels = read_labels(path, frame)
    if labels.shape != size:
        (height, width), (rows, columns) = size, labels.shape
        raise MaskError(
            f"{path} is {columns} x {rows} pixels, and its image {width} x {height}. Give masks in "
            "the size of their images."
        )
    return labels


def _palette_indices(path: Path) -> NDArray[np.int64] | None:
    """Read the indices of an image with a palette; None for other files."""
    with reader_faults(str(path)), Image.open(path) as image:
        if image.format in _LOSSY:
            raise ImageError(
                f"{path} is a JPEG, which changes labels at their edges. Save masks as PNG."
            )
        if image.mode != "P":
            return None
        check_size(image.width, image.height, str(path), MAX_PIXELS)
        return np.asarray(image).astype(np.int64)


def _whole(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if values.ndim == 3:
        if not (values == values[..., :1]).all():
            raise ImageError(
                f"{path} has colours, which name no classes. Save labels as grey values, or as an "
                "image with a palette."
            )
        values = values[..., 0]
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        raise ImageError(f"{path} holds fractions, which name no classes. Save whole numbers.")
    return values.astype(np.int64)


def _listed(labels: list[int]) -> str:
    shown = ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")
    return f"the label{'s' if len(labels) > 1 else ''} {shown}"
