"""The beats of a clip, the frames that take part, and the robust extremes of each beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.echo.cardiac_cycle import GOOD_FIT, check_beat
from fastseg.errors import MaskError
from fastseg.inputs.numbers import real_array

if TYPE_CHECKING:
    from fastseg.imaging.image import Timing

FoundBy: TypeAlias = Literal["R wave", "sinusoid", "area curve", "heart rate", "whole clip"]
"""Source of the bounds of beats, the first of these that is there."""

LEAST_SCORE = 0.5
"""A mask of which the network expects less than this IoU takes no part."""

LEAST_SHARE = 0.5
"""Share of the frames of a beat that must take part."""

MOST_BEATS = 8
"""Beats of a clip that count; further ones are left out."""

BESIDE = 2
"""Frames on either side that an area must agree with."""

_FURTHEST = 0.3  # share by which it may differ from their median
_FRAMES_TO_COMPARE = 10  # with fewer frames a beat the neighbours of an extreme are far from it
_FINE, _FINER = 16, 20  # frames a beat from which extremes are medians of 3, and of 5 frames
_RATES = (30.0, 200.0)  # beats a minute that a fit without a heart rate tries
_NEAR_RATE = 0.3  # share by which the fitted period may differ from that of the heart rate
_SHORTEST = 4.0  # frames of a beat
_PERIODS = 200
_REACH = 3  # frames outside of a beat that its extremes are compared with
_BEYOND = 0.05  # share by which these may go beyond


@dataclass(frozen=True, slots=True)
class Beat:
    """A beat of a clip, and the frames of it that count."""

    start: int
    """First frame."""

    end: int
    """Frame after the last one."""

    largest: int
    """Frame whose area is the robust maximum."""

    smallest: int
    """Frame whose area is the robust minimum."""

    used: int
    """Frames that take part."""

    @property
    def frames(self) -> int:
        """Count of frames."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class AreaCurve:
    """The area of a chamber over a clip. Frames are counted from 0 in the order of the clip."""

    view: str
    chamber: str
    clip: str
    areas_cm2: tuple[float, ...]
    used: tuple[bool, ...]
    """True for each frame that takes part."""

    beats: tuple[Beat, ...]
    """Beats of which enough frames take part."""

    found_by: FoundBy
    frame_ms: float | None = None
    """Time between frames, if it is known."""

    def has_gap_beside(self, frame: int) -> bool:
        """Tell if a frame next to ``frame``, or next but one, takes no part."""
        return not all(self.used[max(0, frame - BESIDE) : frame + BESIDE + 1])

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def usable(areas_cm2: ArrayLike, scores: ArrayLike) -> NDArray[np.bool_]:
    """Choose the frames of a clip that take part in beats and extremes.

    A frame takes part if its chamber was found, if the network expects an IoU of at least
    ``LEAST_SCORE`` of it or says nothing (NaN), and if its area agrees with its neighbours: it
    differs by at most 30 % from the median of the frames that passed so far among itself and the
    two on either side. Clips of fewer than ten such frames are too coarse for the last rule.

    Args:
        areas_cm2: (N,) area in each frame, NaN where the chamber was not found.
        scores: (N,) expected IoU.

    Returns:
        bool (N,).

    Raises:
        MaskError: The two are not rows of numbers of one length.
    """
    areas = real_array(areas_cm2, "areas", MaskError)
    expected = real_array(scores, "scores", MaskError)
    if areas.ndim != 1 or areas.shape != expected.shape:
        raise MaskError(
            "areas and scores must be rows of numbers, one a frame, not "
            f"{areas.shape} and {expected.shape}."
        )
    chosen = np.isfinite(areas) & ~(expected < LEAST_SCORE)
    places = np.flatnonzero(chosen)
    if len(places) < _FRAMES_TO_COMPARE:
        return chosen
    around = np.pad(np.where(chosen, areas, np.nan), BESIDE, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(around, 2 * BESIDE + 1)
    middle = np.nanmedian(windows[places], axis=1)
    chosen[places] = np.abs(areas[places] - middle) <= _FURTHEST * middle
    return chosen


def find_beats(
    areas_cm2: ArrayLike,
    used: ArrayLike,
    *,
    timing: Timing | None = None,
    frames_per_beat: float | None = None,
) -> tuple[tuple[tuple[int, int], ...], FoundBy]:
    """Find the complete beats of a clip.

    R waves bound beats where the file states two or more. Else a sinusoid is fitted by least
    squares, its period within 30 % of a known heart rate or free; if its R2 is at least 0.4, beats
    begin a quarter of a period before its maxima, so that maximum and minimum lie inside. Else
    beats begin where the area rises through the middle of its range. Else a clip of two beats or
    more by its heart rate is cut into beats of that length, placed by the sinusoid of that period.
    Any other clip is one beat.

    Args:
        areas_cm2: (N,) area in each frame.
        used: bool (N,), the frames that take part.
        timing: Time between frames, heart rate and R waves, as far as they are known.
        frames_per_beat: Frames of a beat, instead of those by the heart rate.

    Returns:
        First frame of each beat and the one after its last, in order, and the source of the bounds.
    """
    areas = real_array(areas_cm2, "areas", MaskError)
    chosen = np.asarray(used, np.bool_)
    count = len(areas)
    waves = _r_waves(timing, count)
    if len(waves) > 1:
        spans = [(one, other) for one, other in pairwise(waves) if other > one]
        return tuple(spans), "R wave"
    length = beat_length(timing, frames_per_beat)
    places = np.flatnonzero(chosen)
    if len(places) >= 2 * _SHORTEST:
        fit = _fit(places, areas[places], count, length, timing.frame_ms if timing else None)
        if fit is not None:
            period, top, r2 = fit
            if r2 >= GOOD_FIT and (spans := _periodic(top - period / 4, period, count)):
                return tuple(spans), "sinusoid"
        if spans := _rising(places, areas[places]):
            return tuple(spans), "area curve"
    if length is not None and length >= _SHORTEST and count >= 2 * length and len(places) > 2:
        begin = _top_of_wave(places, areas[places], length)[0] - length / 4
        return tuple(_periodic(begin, length, count)), "heart rate"
    return ((0, count),), "whole clip"


def extremes_of_beats(
    areas_cm2: ArrayLike, used: ArrayLike, spans: Sequence[tuple[int, int]]
) -> tuple[Beat, ...]:
    """Find the robust maximum and minimum of each beat of which enough frames take part.

    With 20 frames a beat or more, the extreme is that of the running median of five frames, from 16
    on of three, and the frame that counts is the one whose area is that median. So no single mask
    makes an extreme. With fewer frames it is the largest and the smallest area.

    Args:
        areas_cm2: (N,) area in each frame.
        used: bool (N,), the frames that take part.
        spans: First frame of each beat, and the one after its last.
    """
    areas = real_array(areas_cm2, "areas", MaskError)
    places = np.flatnonzero(np.asarray(used, np.bool_))
    beats = []
    for start, end in spans:
        inside = (places >= start) & (places < end)
        taking_part = int(inside.sum())
        if not taking_part or taking_part < LEAST_SHARE * (end - start):
            continue
        width = 5 if end - start >= _FINER else 3 if end - start >= _FINE else 1
        width = min(width, taking_part - 1 + taking_part % 2)
        around = [_window(places, place, width) for place in np.flatnonzero(inside).tolist()]
        middles = [float(np.median(areas[window])) for window in around]
        found = []
        for chosen in (np.argmax(middles), np.argmin(middles)):
            window = around[int(chosen)]
            found.append(int(window[np.argmin(np.abs(areas[window] - middles[int(chosen)]))]))
        beats.append(Beat(start, end, found[0], found[1], taking_part))
    return tuple(beats[:MOST_BEATS])


def with_own_extremes(
    beats: Sequence[Beat], areas_cm2: ArrayLike, used: ArrayLike
) -> tuple[Beat, ...]:
    """Leave out beats whose extreme belongs to the beat beside it.

    Beats that were cut by the heart rate alone may begin in the middle of a contraction. One is
    left out if an area just outside of it goes beyond its extreme by more than 5 %, or if its
    extreme lies within a quarter of a beat of that of the last one that was kept.

    Args:
        beats: Beats in their order.
        areas_cm2: (N,) area in each frame.
        used: bool (N,), the frames that take part.
    """
    areas = real_array(areas_cm2, "areas", MaskError)
    known = np.pad(np.where(np.asarray(used, np.bool_), areas, np.nan), 1, constant_values=np.nan)
    smooth = np.array([_middle(known[frame : frame + 3]) for frame in range(len(areas))])
    kept: list[Beat] = []
    for beat in beats:
        outside = np.concatenate(
            [smooth[max(0, beat.start - _REACH) : beat.start], smooth[beat.end : beat.end + _REACH]]
        )
        beyond = bool(
            (outside > (1 + _BEYOND) * areas[beat.largest]).any()
            or (outside < (1 - _BEYOND) * areas[beat.smallest]).any()
        )
        same = kept and (
            min(beat.largest - kept[-1].largest, beat.smallest - kept[-1].smallest)
            < beat.frames / 4
        )
        if not beyond and not same:
            kept.append(beat)
    return tuple(kept)


def _middle(areas: NDArray[np.float64]) -> float:
    """Return the median of the areas that are known, NaN without any."""
    found = areas[np.isfinite(areas)]
    return float(np.median(found)) if len(found) else math.nan


def beat_length(timing: Timing | None, frames_per_beat: float | None = None) -> float | None:
    """Return the frames of a beat by what is known of a clip; None if nothing is."""
    if frames_per_beat is not None:
        return check_beat(frames_per_beat)
    if timing and timing.frame_ms and timing.heart_rate:
        return 60_000 / timing.heart_rate / timing.frame_ms
    return None


def _window(row: NDArray[Any], place: int, width: int) -> NDArray[Any]:
    """Return the odd ``width`` entries around one of a row, and of those beside its ends three.

    At an end the outermost three count, so that the median is that of a frame beside the end.
    """
    reach = min(width // 2, max(place, 1), max(len(row) - 1 - place, 1))
    if width == 1 or len(row) < width:
        return row[place : place + 1]
    middle = min(max(place, reach), len(row) - 1 - reach)
    return row[middle - reach : middle + reach + 1]


def _r_waves(timing: Timing | None, count: int) -> list[int]:
    """Return the frames of the R waves that lie in a clip, or at its end."""
    if timing is None or not timing.frame_ms:
        return []
    frames = (round(time / timing.frame_ms) for time in timing.r_wave_ms)
    return sorted({frame for frame in frames if 0 <= frame <= count})


def _fit(
    places: NDArray[np.intp],
    areas: NDArray[np.float64],
    count: int,
    length: float | None,
    frame_ms: float | None,
) -> tuple[float, float, float] | None:
    """Fit a sinusoid: its period and the place of a maximum, in frames, and its R2."""
    shortest, longest = _SHORTEST, float(count)
    if length is not None:
        shortest, longest = (1 - _NEAR_RATE) * length, (1 + _NEAR_RATE) * length
    elif frame_ms:
        slow, fast = (60_000 / rate / frame_ms for rate in _RATES)
        shortest, longest = max(shortest, fast), min(longest, slow)
    variance = float(areas.var())
    if not variance > 0 or not longest >= shortest >= 1:
        return None
    best = None
    for period in np.geomspace(shortest, longest, _PERIODS).tolist():
        top, left = _top_of_wave(places, areas, period)
        r2 = 1 - left / variance
        if best is None or r2 > best[2] + 1e-9:
            best = (period, top, r2)
    return best


def _top_of_wave(
    places: NDArray[np.intp], areas: NDArray[np.float64], period: float
) -> tuple[float, float]:
    """Fit a sinusoid of a period: the place of a maximum in frames, and the variance it leaves."""
    angle = 2 * math.pi / period * places
    wave = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(wave, areas, rcond=None)
    top = math.atan2(float(weights[2]), float(weights[1])) * period / (2 * math.pi)
    return top, float((areas - wave @ weights).var())


def _periodic(begin: float, period: float, count: int) -> list[tuple[int, int]]:
    """List the complete beats of a period; a tenth of a beat may be missing at an end."""
    slack = 0.1 * period
    number = math.ceil((-slack - begin) / period)
    spans = []
    while (end := begin + (number + 1) * period) <= count + slack:
        start = max(0, round(end - period))
        spans.append((start, min(count, round(end))))
        number += 1
    return spans


def _rising(places: NDArray[np.intp], areas: NDArray[np.float64]) -> list[tuple[int, int]]:
    """List the beats between the frames where the area rises through the middle of its range."""
    smooth = np.array([np.median(_window(areas, place, 3)) for place in range(len(areas))])
    low, high = float(smooth.min()), float(smooth.max())
    below, starts = False, []
    for place, area in zip(places.tolist(), smooth.tolist(), strict=True):
        # A band around the middle, so that noise is not taken for beats.
        if area < low + 0.35 * (high - low):
            below = True
        elif below and area > low + 0.65 * (high - low):
            below = False
            starts.append(place)
    spans = pairwise(starts)
    return [(one, other) for one, other in spans if other - one >= _SHORTEST]
