"""Measurements of a chamber in one frame: area, long axis, disk diameters, shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.environment import thread_count
from fastseg.errors import MaskError, MeasurementError
from fastseg.inputs.numbers import host_array, one_of, real_number, shown, whole_number, yes_or_no
from fastseg.masks import Masks

Mode: TypeAlias = Literal["default", "source"]
_Rule: TypeAlias = Literal["default", "upright", "source"]
Point: TypeAlias = tuple[float, float]
"""x before y in pixels; the middle of the first pixel is (0, 0)."""

DISKS = 21
"""Disks along the long axis."""

ATRIA = ("LA", "RA")
"""Chambers whose axis is kept upright: an atrium is often wider than long. A ventricle is longer
than wide: its own axis is right also where the heart lies flat in the frame."""

FIELD_OF_VIEW_CM = 20.0
"""Length of a frame's longer side unless its scale is known."""

SMALLEST_PIXEL_CM, LARGEST_PIXEL_CM = 1e-6, 100.0
"""Sides of a pixel in cm that are taken; beyond them a scale is a mistake, and areas overflow."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One chamber in one frame. A value that cannot be measured is NaN, and ``reason`` says why."""

    name: str
    """Name of the chamber."""

    mode: Mode
    """``"source"`` follows the published method with its quirks, ``"default"`` without them."""

    cm_per_pixel: float
    """Side of a pixel in cm."""

    area_cm2: float
    """All pixels of the mask, also where it is in pieces."""

    convex_area_cm2: float
    """The convex hull of the mask."""

    length_cm: float
    """The long axis, from wall to wall."""

    diameters_cm: tuple[float, ...]
    """Across the axis, top to bottom; NaN where a station has no pixel of the mask."""

    eccentricity: float
    """Of the ellipse with the same second moments: 0 a circle, towards 1 a line."""

    solidity: float
    """Area over convex area, 0..1."""

    centroid_px: Point
    """Of the piece that has the axis."""

    orientation_rad: float
    """The axis against the downward direction, positive towards the right, -pi/2..pi/2."""

    axis_px: tuple[Point, Point]
    """Top and bottom end of the long axis."""

    chords_px: tuple[tuple[Point, Point], ...]
    """Left and right end of each diameter."""

    pieces: int
    """Parts of the mask that do not touch, not even at corners."""

    reason: str
    """The reason why a value is NaN, in words; empty if none is."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def measure(
    masks: Masks | NDArray[np.bool_],
    *,
    cm_per_pixel: float,
    mode: Mode = "default",
    upright: bool | None = None,
    names: Sequence[str] | None = None,
    threads: int = 0,
) -> list[Measurement]:
    """Measure every mask of one frame.

    The method is that of Ferreira et al., Nat Commun 16, 4070 (2025): the axis follows the
    direction of the largest second moment through the centroid, and 21 diameters stand across it.

    Args:
        masks: ``Masks``, or bool (n, H, W).
        cm_per_pixel: Side of a pixel in cm, for example 20 / 256.
        mode: ``"default"``: the axis of the largest piece, exact to a fraction of a pixel, with
            stations in the middle of each disk. ``"source"``: the published behaviour, bit for bit,
            on whole pixels. ``docs/echo.md`` lists the differences.
        upright: In ``"default"`` mode, keep the axis within 0.7 rad of the vertical, as that of a
            heart's chamber in an apical view is; a mask that is wider than long has it across
            otherwise. None does so for ``ATRIA`` alone, as the report does.
        names: Name of each mask; those of ``masks`` if left out.
        threads: Processor threads; 0 means every core.

    Returns:
        One measurement a mask, in the same order. An empty or degenerate mask gives NaN.

    Raises:
        MaskError: ``masks`` is no stack of masks, or there are not as many names as masks.
        MeasurementError: The scale is not a positive number or cannot be that of a pixel, there is
            no such mode, or ``threads`` or ``upright`` is of another type.
    """
    one_of(mode, get_args(Mode), "mode", MeasurementError)
    scale = real_number(cm_per_pixel, "cm_per_pixel", MeasurementError, positive=True)
    if not SMALLEST_PIXEL_CM <= scale <= LARGEST_PIXEL_CM:
        raise MeasurementError(
            f"cm_per_pixel must be between {SMALLEST_PIXEL_CM:g} and "
            f"{LARGEST_PIXEL_CM:g} cm, not {scale:g}. A frame whose longer side spans 20 cm has "
            "20 / that side in pixels."
        )
    threads = thread_count(whole_number(threads, "threads", MeasurementError, least=0))
    if upright is not None:
        upright = yes_or_no(upright, "upright", MeasurementError)
    pixels = _stack(masks)
    called = _names(masks, names, len(pixels))
    turned = [name in ATRIA if upright is None else upright for name in called]
    keep = np.array(turned, np.bool_) & (mode == "default")
    measured: dict[int, Measurement] = {}
    groups: tuple[tuple[_Rule, NDArray[np.bool_]], ...] = (("upright", keep), (mode, ~keep))
    for rule, chosen in groups:
        places = np.flatnonzero(chosen)
        shapes = ops.measure_shapes(pixels[places], rule, disks=DISKS, threads=threads)
        for row, place in enumerate(places.tolist()):
            measured[place] = _measurement(shapes, row, called[place], mode, scale)
    return [measured[place] for place in range(len(pixels))]


def _stack(masks: Masks | NDArray[np.bool_]) -> NDArray[np.bool_]:
    pixels = masks.array() if isinstance(masks, Masks) else host_array(masks, "masks", MaskError)
    if pixels.ndim != 3 or pixels.dtype != np.bool_:
        raise MaskError(
            f"masks must be Masks or bool (n, H, W), not {pixels.dtype} {pixels.shape}. "
            "Compare with a threshold, and put one mask into a stack by mask[None]."
        )
    return np.ascontiguousarray(pixels)


def _names(
    masks: Masks | NDArray[np.bool_], names: Sequence[str] | None, count: int
) -> Sequence[str]:
    if names is None:
        own = masks.names if isinstance(masks, Masks) else None
        return own or [f"mask {index + 1}" for index in range(count)]
    if isinstance(names, str | bytes) or not isinstance(names, Sequence):
        raise MaskError(f"names must be a list with one for each mask, not {shown(names)}.")
    if not all(isinstance(name, str) for name in names[: count + 1]):
        raise MaskError(f"names must be text, not {shown(names)}.")
    if len(names) != count:
        raise MaskError(f"there are {count} masks and {len(names)} names: give each mask one.")
    return names


def _measurement(
    shapes: ops.Shapes, index: int, name: str, mode: Mode, scale: float
) -> Measurement:
    """Convert one row of ``shapes`` from pixels to centimetres."""
    pixels = float(shapes.areas[index])
    length = float(shapes.lengths[index])
    area = pixels * scale**2 if pixels else math.nan
    convex = float(shapes.convex_areas[index]) * scale**2
    return Measurement(
        name=name,
        mode=mode,
        cm_per_pixel=scale,
        area_cm2=area,
        convex_area_cm2=convex,
        length_cm=length * scale,
        diameters_cm=tuple((shapes.diameters[index] * scale).tolist()),
        eccentricity=float(shapes.eccentricity[index]),
        solidity=area / convex if convex > 0 else math.nan,
        centroid_px=_point(shapes.centroids[index]),
        orientation_rad=float(shapes.orientations[index]),
        axis_px=(_point(shapes.ends[index, 0]), _point(shapes.ends[index, 1])),
        chords_px=tuple((_point(left), _point(right)) for left, right in shapes.chords[index]),
        pieces=int(shapes.pieces[index]),
        reason=_reason(name, int(pixels), length),
    )


def _point(row_column: NDArray[np.float64]) -> Point:
    row, column = row_column.tolist()
    return column, row


def _reason(name: str, pixels: int, length: float) -> str:
    if not pixels:
        return f"no {name} was found"
    if not length > 0:
        return f"{name} has {pixels} pixels and no axis that can be measured"
    return ""
