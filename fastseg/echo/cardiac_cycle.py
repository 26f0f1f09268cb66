"""The heartbeat in a clip: the clip to trust, its largest and its smallest frame."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, MaskError, MeasurementError
from fastseg.inputs.numbers import real_array, real_number

GOOD_FIT = 0.4
"""Below this R2 the fit is tried again with half as many beats in the clip."""

_PARAMETERS = 4  # frequency, amplitude, phase, offset


@dataclass(frozen=True, slots=True)
class Extremes:
    """The clip that is used, and the frames of it that count."""

    clip: int
    """Place of the clip among those given."""

    largest: int
    """Frame with the largest area: end-diastole of a ventricle, the maximum of an atrium."""

    smallest: int
    """Frame with the smallest area: end-systole of a ventricle."""

    r2: float | None
    """R2 of a sinusoid fitted to the clip's areas; None where there was no other clip."""


def sinusoid_r2(areas_cm2: ArrayLike, *, frames_per_beat: float | None = None) -> float:
    """Fit a sinusoid to a chamber's area over a clip and return R2: high in a good clip.

    The fit is that of Ferreira et al. 2025: area = a sin(f t + phase) + offset by least squares,
    t even from 0 to pi * round(N / q) with q half of the frames of a beat, started at f = 1; below
    an R2 of 0.4 once more with half of that t, whose R2 then counts. It ranks clips and is no
    limit.

    Args:
        areas_cm2: (N,) area in each frame, in order.
        frames_per_beat: Frames from one beat to the next (frame rate * 60 / heart rate). None takes
            N / 2, as if the clip were two beats long.

    Returns:
        1 - var(residual) / var(area). 0 if the fit fails: fewer than four frames, a constant area,
        a frame in which the chamber was not found, or no convergence.

    Raises:
        BackendUnavailableError: SciPy is not installed.
        MaskError: The areas are not one row of numbers.
        MeasurementError: ``frames_per_beat`` is no number of at least 1.
    """
    areas = real_array(areas_cm2, "areas", MaskError)
    if areas.ndim != 1:
        raise MaskError(f"areas must be one row of numbers, one a frame, not {areas.shape}.")
    count = len(areas)
    beat = count / 2 if frames_per_beat is None else check_beat(frames_per_beat)
    # Fewer points than parameters have no fit, and neither has a line; no need to load SciPy.
    if count < _PARAMETERS or not np.isfinite(areas).all() or not areas.var() > 0:
        return 0.0
    half = beat / 2
    r2 = _fit(areas, math.pi * round(count / half))
    return r2 if r2 >= GOOD_FIT else _fit(areas, math.pi * round(count / (2 * half)))


def extremes(
    clips: Sequence[ArrayLike], *, frames_per_beat: float | None = None
) -> Extremes | None:
    """Choose the clip with the highest R2, and in it the frames of largest and smallest area.

    Args:
        clips: For each clip the area of the chamber in each frame, NaN where it was not found.
        frames_per_beat: As in ``sinusoid_r2``.

    Returns:
        Among equals the first. With one clip there is nothing to rank and no fit is made. None if
        the chamber was found in no frame.

    Raises:
        BackendUnavailableError: Clips must be ranked and SciPy is not installed.
        MaskError: The areas of a clip are not one row of numbers.
        MeasurementError: ``frames_per_beat`` is not a positive number.
    """
    if frames_per_beat is not None:
        check_beat(frames_per_beat)
    rows = [real_array(areas, f"clips[{index}]", MaskError) for index, areas in enumerate(clips)]
    if any(row.ndim != 1 for row in rows):
        raise MaskError("areas must be one row of numbers for each clip, one a frame.")
    found = [index for index, row in enumerate(rows) if np.isfinite(row).any()]
    if not found:
        return None
    best, r2 = found[0], None
    if len(found) > 1:
        fits = [sinusoid_r2(rows[index], frames_per_beat=frames_per_beat) for index in found]
        place = int(np.argmax(fits))
        best, r2 = found[place], fits[place]
    areas = rows[best]
    return Extremes(best, int(np.nanargmax(areas)), int(np.nanargmin(areas)), r2)


def check_beat(frames_per_beat: float) -> float:
    """Return the frames of a beat as a number.

    Raises:
        MeasurementError: It is no number of at least 1.
    """
    beat = real_number(frames_per_beat, "frames_per_beat", MeasurementError, positive=True)
    if beat < 1:
        raise MeasurementError(f"frames_per_beat must be at least 1, not {beat:g}.")
    return beat


def _fit(areas: NDArray[np.float64], end: float) -> float:
    """Fit a sinusoid to ``areas`` at times from 0 to ``end`` and return R2; 0 without a fit."""
    try:
        from scipy.optimize import curve_fit
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "the choice between clips",
            reason=f"{error.name} is not installed",
            remedy=f"{install_hint('echo')}, or give one clip a view.",
        ) from error
    time = np.linspace(0.0, end, len(areas))
    start = [1.0, 3 * float(areas.std()) / math.sqrt(2), 0.0, float(areas.mean())]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the covariance is not used
            best, _ = curve_fit(_sinusoid, time, areas, p0=start)
    except (RuntimeError, TypeError, ValueError):
        return 0.0
    r2 = 1 - float(np.var(areas - _sinusoid(time, *best)) / np.var(areas))
    return r2 if math.isfinite(r2) else 0.0


def _sinusoid(
    time: NDArray[np.float64], frequency: float, amplitude: float, phase: float, offset: float
) -> NDArray[np.float64]:
    wave: NDArray[np.float64] = np.sin(time * frequency + phase) * amplitude + offset
    return wave
