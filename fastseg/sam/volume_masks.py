"""Masks of the objects of a volume: one a slice and object, with the reasons where they end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.imaging import MedicalImage
from fastseg.imaging.dicom.segmentation import SegmentationKind
from fastseg.imaging.saving import save as save_masks
from fastseg.masks import Masks
from fastseg.timings import Timings

StopReason: TypeAlias = Literal[
    "end of the volume",
    "next prompt",
    "empty",
    "score",
    "collapse",
    "explosion",
    "brightness",
    "cancelled",
]
"""Reasons for the end of an object in one direction."""

Rule: TypeAlias = Literal["best", "box", "logits", "repeat"]
"""Rules that make the prompt of a slice; see ``Sam.propagate``."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of an object in one direction from one of its prompts."""

    object: int
    start: int
    """Slice of the prompt."""

    step: int
    """1 towards higher slices, -1 towards lower ones."""

    last: int
    """Last slice in this direction with a mask."""

    reason: StopReason

    score: float | None = None
    """Score of the mask that was refused, where there was one."""

    area: int | None = None
    """Area of the refused mask in pixels."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, eq=False)
class VolumeMasks(Sequence[Masks]):
    """Masks of the objects of a volume, slice by slice; indexing gives the ``Masks`` of a slice.

    The ``Masks`` of every slice have one mask for each object, empty and with the score NaN where
    the object was not found. Slices are cut across ``axis``.
    """

    slices: tuple[Masks, ...]
    axis: int
    """Axis of the volume (frames, rows, columns) that slices are counted along: 0, 1 or 2."""

    stops: tuple[Stop, ...]
    """For each object and direction the reason why it ends there."""

    voxel_ml: float | None
    """Volume of a voxel in millilitres; None if the volume has no spacing."""

    timings: Timings
    """Sum over all slices."""

    embedded: int = 0
    """Runs of the image encoder."""

    is_complete: bool = True
    """False if the call was cancelled."""

    @property
    def objects(self) -> int:
        """Number of objects."""
        return len(self.slices[0])

    @property
    def scores(self) -> NDArray[np.float32]:
        """(objects, slices) the network's own estimate of each mask's IoU; NaN where none is."""
        return np.stack([one.scores for one in self.slices], axis=1)

    @property
    def areas(self) -> NDArray[np.int64]:
        """(objects, slices) in pixels of the slice."""
        return np.stack([one.areas for one in self.slices], axis=1)

    @property
    def voxels(self) -> NDArray[np.int64]:
        """(objects,) voxels of each object."""
        total: NDArray[np.int64] = self.areas.sum(axis=1)
        return total

    @property
    def millilitres(self) -> NDArray[np.float64] | None:
        """(objects,) volume of each object in mL; None without spacing."""
        if self.voxel_ml is None:
            return None
        volumes: NDArray[np.float64] = self.voxels.astype(np.float64) * self.voxel_ml
        return volumes

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.slices)

    def __getitem__(self, index: Any) -> Any:
        """Take the masks of a slice, or a tuple of those of some slices."""
        return self.slices[index]

    def __iter__(self) -> Iterator[Masks]:
        """Yield the masks of each slice."""
        return iter(self.slices)

    def __repr__(self) -> str:
        """Name objects and slices; the arrays would fill the screen."""
        return (
            f"<VolumeMasks: {self.objects} objects in {len(self)} slices across axis {self.axis}>"
        )

    def with_names(self, names: Sequence[str]) -> VolumeMasks:
        """Return the same masks with a name for each object.

        Raises:
            MaskError: The names are no texts, or not as many as there are objects.
        """
        return replace(self, slices=tuple(one.with_names(names) for one in self.slices))

    def array(self) -> NDArray[np.bool_]:
        """Return bool (objects, frames, rows, columns), in the axes of the volume."""
        stacked = np.stack([one.array() for one in self.slices], axis=1)
        return np.moveaxis(stacked, 1, 1 + self.axis)

    def frames(self) -> list[Masks]:
        """Return the masks of each frame of the volume, also where slices are cut across others.

        Across another axis than 0, scores and stability of a frame's masks are NaN, since it has
        pixels of many slices.
        """
        if self.axis == 0:
            return list(self.slices)
        missing = np.full(self.objects, np.nan, np.float32)
        return [
            Masks.from_rle(
                ops.rle_from_array(np.ascontiguousarray(frame)),
                scores=missing,
                stability=missing,
                names=self.slices[0].names,
            )
            for frame in np.moveaxis(self.array(), 1, 0)
        ]

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        source: MedicalImage | None = None,
        keep_patient: bool = False,
        segmentation: SegmentationKind = "binary",
    ) -> Path:
        """Write one file with the masks of all frames, as ``fastseg.imaging.save`` does.

        Args:
            path: The file; its suffix chooses the format.
            source: The volume, whose geometry the file gets.
            keep_patient: Keep the patient's data in a DICOM SEG.
            segmentation: Type of a DICOM SEG.

        Raises:
            BackendUnavailableError: The package for the format is not installed.
            MaskError: The masks overlap in a label map, or do not fit their source.
            OutputError: The suffix is of no such format, or the file cannot be written.
        """
        about: dict[str, Any] = {"keep_patient": keep_patient, "segmentation": segmentation}
        return save_masks(path, self.frames(), source=source, **about)
