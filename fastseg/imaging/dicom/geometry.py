"""Place and size of DICOM frames in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.imaging.dicom.header import decimals

_TOLERANCE = 1e-3
"""Largest error of a direction cosine."""

EVEN_MM = 0.02
"""Share of the distance of slices by which one may be off its place."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Place of one frame; None where the header does not state it."""

    position: tuple[float, ...] | None
    """Centre of the first pixel in mm, LPS."""

    orientation: tuple[float, ...] | None
    """Directions of a row and of a column, as six cosines."""

    spacing: tuple[float, float] | None
    """Distance of rows and of columns in mm."""

    thickness: float | None
    """Distance to the next slice that the header states, else the thickness, in mm."""

    @property
    def normal(self) -> NDArray[np.float64] | None:
        """Direction across the slices."""
        if self.orientation is None:
            return None
        return np.cross(self.orientation[:3], self.orientation[3:])


def functional_group(header: Any, index: int, name: str) -> Any:
    """Return the item of a functional group for a frame, else the header itself."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    for group in (*per_frame[index : index + 1], *shared[:1]):
        items = group.get(name)
        if items:
            return items[0]
    return header


def plane(header: Any, index: int = 0) -> Plane:
    """Read the place of a frame."""
    measures = functional_group(header, index, "PixelMeasuresSequence")
    position = decimals(
        functional_group(header, index, "PlanePositionSequence"), "ImagePositionPatient"
    )
    orientation = decimals(
        functional_group(header, index, "PlaneOrientationSequence"), "ImageOrientationPatient"
    )
    sides = decimals(measures, "PixelSpacing") or decimals(header, "ImagerPixelSpacing")
    between = decimals(measures, "SpacingBetweenSlices") or decimals(measures, "SliceThickness")
    return Plane(
        position if len(position) == 3 else None,
        orientation if _is_orthonormal(orientation) else None,
        (sides[0], sides[1]) if len(sides) == 2 and min(sides) > 0 else None,
        between[0] if between and between[0] > 0 else None,
    )


def planes_of(header: Any, count: int) -> list[Plane]:
    """Read the place of each frame; once where the header states one place for all."""
    if not header.get("PerFrameFunctionalGroupsSequence"):
        return [plane(header)] * count
    return [plane(header, index) for index in range(count)]


def _is_orthonormal(orientation: Sequence[float]) -> bool:
    if len(orientation) != 6:
        return False
    axes = np.reshape(orientation, (2, 3))
    return bool(np.allclose(axes @ axes.T, np.eye(2), atol=_TOLERANCE))


def affine_of(planes: Sequence[Plane]) -> tuple[NDArray[np.float64] | None, float | None]:
    """Compute the affine of frames in their order, and their distance in mm.

    Returns:
        (4, 4) from slice, row, column, 1 to LPS mm, None if the frames are no even stack or do not
        say where they are; and the distance, None if it is not known.
    """
    first = planes[0]
    normal = first.normal
    if first.spacing is None or first.position is None or normal is None:
        return None, None
    if not all(one.spacing == first.spacing and _is_along(one, first) for one in planes):
        return None, None
    step, distance = normal * (first.thickness or 1.0), first.thickness
    if len(planes) > 1:
        positions = np.array([one.position for one in planes if one.position is not None])
        if len(positions) != len(planes):
            return None, None
        step = (positions[-1] - positions[0]) / (len(planes) - 1)
        even = positions[0] + np.arange(len(planes))[:, None] * step
        distance = float(abs(step @ normal))
        if distance == 0 or np.abs(positions - even).max() > EVEN_MM * distance:
            return None, None
    affine = np.eye(4)
    orientation = np.array(first.orientation)
    affine[:3, 0] = step
    affine[:3, 1] = orientation[3:] * first.spacing[0]
    affine[:3, 2] = orientation[:3] * first.spacing[1]
    affine[:3, 3] = first.position
    return affine, distance


def _is_along(one: Plane, other: Plane) -> bool:
    if one.orientation == other.orientation:
        return True
    if one.orientation is None or other.orientation is None:
        return False
    return bool(np.allclose(one.orientation, other.orientation, atol=_TOLERANCE))


def in_order(planes: Sequence[Plane], what: object) -> list[int]:
    """Return the order of slices along their normal, and refuse a series that is no even stack.

    Raises:
        ImageError: Slices are missing, lie in one place, or differ in direction or spacing.
    """
    first, normal = planes[0], planes[0].normal
    if normal is None or any(one.position is None for one in planes):
        raise ImageError(
            f"{what}: some slices do not state where they are. Give its files one by one."
        )
    for one in planes:
        if not _is_along(one, first):
            raise ImageError(
                f"{what} has slices of several directions, a localiser for one. Give the files of "
                "one direction in a folder of their own."
            )
        if one.spacing != first.spacing:
            raise ImageError(
                f"{what} has slices with pixels of {first.spacing} and {one.spacing} mm. Give the "
                "files of one spacing in a folder of their own."
            )
    heights = np.array([np.dot(one.position or (), normal) for one in planes])
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    usual = float(np.median(gaps)) if len(gaps) else 1.0
    if len(gaps) and gaps.min() < EVEN_MM * max(usual, _TOLERANCE):
        raise ImageError(
            f"{what} has several slices in one place, at {heights[order][gaps.argmin()]:.2f} mm: "
            "they are phases, or copies. Give the files of each phase in a folder of their own."
        )
    if len(gaps) and np.abs(gaps - usual).max() > EVEN_MM * usual:
        worst = int(np.abs(gaps - usual).argmax())
        raise ImageError(
            f"{what} has slices {usual:.2f} mm apart, and {gaps[worst]:.2f} mm after slice "
            f"{worst + 1} of {len(planes)}: one is missing, or the spacing changes. Copy the whole "
            "series again, or give its files one by one."
        )
    return [int(index) for index in order]
