"""Windows: the range of values that becomes the 256 levels of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.inputs.numbers import real_number, shown

WindowFunction: TypeAlias = Literal["exact", "linear", "sigmoid"]
"""Course of a window: LINEAR_EXACT, LINEAR and SIGMOID of DICOM PS3.3, C.11.2.1."""

FILE = "file"
"""Name of the window that a file states itself."""

MEDSAM = "medsam"
"""Name of MedSAM's own rule: soft tissue for CT, percentiles of values above 0 for the rest."""

_PERCENTILE, _NONZERO = "percentile", "nonzero"
_MEDSAM_SHARES = (0.5, 99.5)

_LEVELS = 255


@dataclass(frozen=True, slots=True)
class Window:
    """A range of modality values, for CT in Hounsfield units."""

    centre: float
    width: float
    function: WindowFunction = "exact"

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Map values of any shape to 0..255, rounded half to even; NaN becomes 0."""
        scaled = self._scaled(values.astype(np.float64))
        np.nan_to_num(scaled, copy=False)
        return np.rint(np.clip(scaled, 0, _LEVELS, out=scaled), out=scaled).astype(np.uint8)

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the levels, which may lie outside of 0..255, in the memory of ``values``."""
        if self.function == "sigmoid":
            # Beyond 700 the exponential overflows, and the level is 0 or 255 long before.
            power = np.clip(-4 * (values - self.centre) / self.width, -700, 700)
            levels: NDArray[np.float64] = _LEVELS / (1 + np.exp(power))
            return levels
        low, width = self.centre - self.width / 2, self.width
        if self.function == "linear":
            # A window of one value is a step; the width may be 1 then.
            low, width = self.centre - 0.5 - (self.width - 1) / 2, max(self.width - 1, 1e-9)
        values -= low
        values *= _LEVELS / width
        return values


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A window from one share of all values, in percent, to another."""

    low: float
    high: float
    positive: bool = False
    """Count values above 0 only: air and what was masked away are 0 in MR."""


WINDOWS = {
    "soft-tissue": Window(40, 400),
    "lung": Window(-600, 1500),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
    "liver": Window(30, 150),
    "mediastinum": Window(50, 350),
    "medsam-soft-tissue": Window(40, 400),
    "medsam-lung": Window(-160, 1500),
    "medsam-brain": Window(40, 80),
}
"""Windows of CT by name, in Hounsfield units. Soft tissue and those named so are of MedSAM (Ma et
al. 2024), the others are of Radiopaedia's article on windowing; bone is its window of the spine."""

WindowChoice: TypeAlias = str | tuple[float, float] | Window
"""A name of ``WINDOWS``, ``"medsam"``, ``"file"``, ``"percentile:LOW,HIGH"`` of all values,
``"nonzero:LOW,HIGH"`` of those above 0, centre and width, or a window."""


def parse_window(choice: object, modality: str = "") -> Window | Percentiles | None:
    """Return the window that a user chose; None is that of the file.

    Args:
        choice: As ``WindowChoice``.
        modality: Two letters, as in DICOM; ``"medsam"`` depends on it.

    Raises:
        ImageError: There is no such window.
    """
    if isinstance(choice, Window):
        return _checked(choice.centre, choice.width, choice.function)
    if isinstance(choice, tuple | list) and len(choice) == 2:
        return _checked(*choice)
    if not isinstance(choice, str):
        raise _unknown(choice)
    name = choice.strip().lower().replace("_", "-").replace(" ", "-")
    if name == FILE:
        return None
    if name == MEDSAM:
        is_ct = modality == "CT"
        return WINDOWS["soft-tissue"] if is_ct else Percentiles(*_MEDSAM_SHARES, positive=True)
    if name in WINDOWS:
        return WINDOWS[name]
    kind, _, numbers = name.rpartition(":")
    try:
        first, second = (float(number) for number in numbers.split(","))
    except ValueError:
        raise _unknown(choice) from None
    if kind == "":
        return _checked(first, second)
    if kind in (_PERCENTILE, _NONZERO) and 0 <= first < second <= 100:
        return Percentiles(first, second, positive=kind == _NONZERO)
    raise _unknown(choice)


def _checked(centre: object, width: object, function: WindowFunction = "exact") -> Window:
    return Window(
        real_number(centre, "the centre of the window", ImageError),
        real_number(width, "the width of the window", ImageError, positive=True),
        function,
    )


def _unknown(choice: object) -> ImageError:
    return ImageError(
        f"{shown(choice)} is no window. Give one of {', '.join(WINDOWS)}, {MEDSAM}, {FILE}, "
        f'"{_PERCENTILE}:0.5,99.5", "{_NONZERO}:0.5,99.5", or centre and width such as "40,400".'
    )


def percentile_window(
    values: NDArray[Any], slope: NDArray[Any], intercept: NDArray[Any], share: Percentiles
) -> Window:
    """Compute a window of percentiles, linearly interpolated, over all finite values.

    Args:
        values: (n, H, W), as stored.
        slope: (n,) of each frame.
        intercept: (n,).
        share: The percentiles.

    Raises:
        ImageError: No value is finite, or all between the two are equal.
    """
    one = bool(np.all(slope == slope[0]) and np.all(intercept == intercept[0]))
    counted = one and values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and slope[0] > 0
    if counted:
        # The least stored number whose value is above 0, where only such values count.
        least = math.floor(-intercept[0] / slope[0]) + 1 if share.positive else None
        bounds = slope[0] * _counted_percentiles(values, share, least) + intercept[0]
    else:
        each = (frame * a + b for frame, a, b in zip(values, slope, intercept, strict=True))
        taken = np.concatenate([_taken(frame, share) for frame in each])
        bounds = np.percentile(taken, (share.low, share.high)) if taken.size else (0.0, 0.0)
    low, high = map(float, bounds)
    if not high > low or not math.isfinite(high - low):
        raise ImageError(
            f"the values between percentile {share.low:g} and {share.high:g} are all {low:g}, "
            "which is no window. Give centre and width."
        )
    return Window((low + high) / 2, high - low)


def _taken(values: NDArray[Any], share: Percentiles) -> NDArray[Any]:
    """Return the values that count, in one row."""
    finite: NDArray[Any] = values[np.isfinite(values)]
    return finite[finite > 0] if share.positive else finite


def _counted_percentiles(
    values: NDArray[Any], share: Percentiles, least: int | None
) -> NDArray[np.float64]:
    """Compute percentiles of integers of 16 bits from a histogram, which needs little memory."""
    smallest = int(values.min())
    counts = np.zeros(int(values.max()) - smallest + 1, np.int64)
    for frame in values:
        counts += np.bincount(frame.ravel().astype(np.int64) - smallest, minlength=len(counts))
    if least is not None:
        counts[: max(0, least - smallest)] = 0
    total = int(counts.sum())
    if not total:
        return np.zeros(2)
    ends = np.cumsum(counts)
    place = np.array((share.low, share.high)) / 100 * (total - 1)
    below = np.searchsorted(ends, np.floor(place), side="right")
    above = np.searchsorted(ends, np.ceil(place), side="right")
    found: NDArray[np.float64] = smallest + below + (above - below) * (place - np.floor(place))
    return found
