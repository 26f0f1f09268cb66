"""Slices of a volume along any of its axes, each made when it is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.imaging import MedicalImage, read
from fastseg.inputs.numbers import whole_number

Volume: TypeAlias = MedicalImage | str | os.PathLike[str] | NDArray[Any]
"""Volumes that ``Sam.propagate`` takes."""


@dataclass(frozen=True, slots=True)
class VolumeSlices:
    """The slices of a volume across one of its axes."""

    volume: MedicalImage
    axis: int

    @staticmethod
    def of(source: object, axis: object) -> VolumeSlices:
        """Take an image of ``fastseg.imaging.read``, or whatever it reads.

        Raises:
            ImageError: It is no volume, is several of them, or has no such axis.
        """
        chosen = whole_number(axis, "axis", ImageError, least=0)
        if chosen > 2:
            raise ImageError(f"axis must be 0 (frames), 1 (rows) or 2 (columns), not {chosen}.")
        if not isinstance(source, MedicalImage):
            if not isinstance(source, str | os.PathLike | np.ndarray):
                raise ImageError(
                    f"a volume is an image of fastseg.imaging.read, a path or an array, and not a "
                    f"{type(source).__name__}."
                )
            source = read(source)
        if source.volumes > 1:
            raise ImageError(
                f"{source.name} has {source.volumes} volumes in time. Take one: image.volume(0)."
            )
        return VolumeSlices(source, chosen)

    def __len__(self) -> int:
        """Count the slices."""
        return int(self.volume.stored.shape[self.axis])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice in pixels."""
        height, width = (
            side for axis, side in enumerate(self.volume.stored.shape[:3]) if axis != self.axis
        )
        return int(height), int(width)

    @property
    def pixel(self) -> tuple[float, float] | None:
        """Height and width of a pixel of a slice in mm, if the volume has them."""
        volume = self.volume
        if self.axis == 0 or volume.spacing is None or volume.slice_spacing is None:
            return volume.spacing if self.axis == 0 else None
        return volume.slice_spacing, volume.spacing[2 - self.axis]

    def __getitem__(self, index: int) -> MedicalImage:
        """Return one slice as an image of one frame, in the volume's window."""
        volume = self.volume
        if self.axis == 0:
            return volume[index]
        stored: NDArray[Any] = np.take(volume.stored, index, axis=self.axis)
        slope, intercept = volume.slope[:1], volume.intercept[:1]
        if not volume.is_colour and (np.ptp(volume.slope) or np.ptp(volume.intercept)):
            # Every frame has a scale of its own, and so has every row of this slice.
            stored = stored * volume.slope[:, None] + volume.intercept[:, None]
            slope, intercept = np.ones(1), np.zeros(1)
        return replace(
            volume,
            stored=stored[None],
            slope=slope,
            intercept=intercept,
            spacing=self.pixel,
            slice_spacing=None,
            affine=None,
            regions=(),
            files=(),
        )

    def fingerprint(self) -> str:
        """Return a hash of the values, their window and the axis."""
        volume = self.volume
        digest = sha256(repr((volume.stored.shape, volume.stored.dtype.str, self.axis)).encode())
        digest.update(repr((volume.window, volume.inverted)).encode())
        if volume.table is not None:
            digest.update(repr(volume.table[0]).encode() + volume.table[1].tobytes())
        digest.update(volume.slope.tobytes() + volume.intercept.tobytes())
        for frame in volume.stored:
            digest.update(np.ascontiguousarray(frame).data)
        return digest.hexdigest()
