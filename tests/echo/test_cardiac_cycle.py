"""Promises of ``fastseg.echo.cardiac_cycle``: which clip to trust, and which frames of it."""

from __future__ import annotations

import builtins
import math
import re

import numpy as np
import pytest

from fastseg.echo.cardiac_cycle import extremes, sinusoid_r2
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, MaskError, MeasurementError
from tests.helpers.fresh_interpreter import loaded_by

NAN = math.nan


def beats(count: float, frames: int, *, noise: float = 0.0) -> np.ndarray:
    """Areas of a chamber that beats evenly, in cm2."""
    phase = np.linspace(0, 2 * math.pi * count, frames)
    return 20 + 4 * np.sin(phase) + noise * np.random.default_rng(0).standard_normal(frames)


def test_a_sinusoid_is_a_good_clip_and_noise_is_not() -> None:
    assert sinusoid_r2(beats(2, 60)) == pytest.approx(1.0)
    assert 0.8 < sinusoid_r2(beats(2, 60, noise=1.0)) < 1.0
    assert sinusoid_r2(20 + np.random.default_rng(1).standard_normal(60)) < 0.4


def test_the_fit_begins_where_the_published_one_does() -> None:
    from scipy.optimize import curve_fit

    areas = beats(1.4, 37, noise=1.5)

    def wave(time, frequency, amplitude, phase, offset):
        return amplitude * np.sin(frequency * time + phase) + offset

    half = 20 / 2
    for end in (math.pi * round(37 / half), math.pi * round(37 / (2 * half))):
        time = np.linspace(0, end, 37)
        start = (1, 3 * np.std(areas) / math.sqrt(2), 0, np.mean(areas))
        best, _ = curve_fit(wave, time, areas, p0=start)
        r2 = 1 - np.var(areas - wave(time, *best)) / np.var(areas)
        if r2 >= 0.4:
            break
    assert sinusoid_r2(areas, frames_per_beat=20) == pytest.approx(r2, abs=1e-9)


def test_a_poor_fit_is_tried_once_more_over_half_the_time() -> None:
    # One slow wave, said to be eight: from f = 1 over eight beats the fit ends in a ripple.
    areas = beats(1, 80)
    assert sinusoid_r2(areas, frames_per_beat=40) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "areas",
    [
        [],
        [20.0],
        [20.0, 15.0, 18.0],
        [20.0] * 30,
        [*beats(2, 29), NAN],
        [*beats(2, 29), math.inf],
    ],
)
def test_a_fit_that_cannot_be_made_is_zero(areas: list[float]) -> None:
    assert sinusoid_r2(areas) == 0


def test_a_fit_that_does_not_converge_is_zero(monkeypatch) -> None:
    import scipy.optimize

    def lost(*_, **__):
        raise RuntimeError("no convergence")

    monkeypatch.setattr(scipy.optimize, "curve_fit", lost)
    assert sinusoid_r2(beats(2, 60)) == 0


def test_the_best_clip_gives_its_largest_and_smallest_frame() -> None:
    even, noisy = beats(2, 40), beats(2, 40, noise=3.0)
    noisy[7] = 90.0
    chosen = extremes([noisy, even])
    assert chosen is not None
    assert chosen.clip == 1
    assert (chosen.largest, chosen.smallest) == (np.argmax(even), np.argmin(even))
    assert chosen.r2 == pytest.approx(1.0)


def test_among_equal_clips_the_first_is_taken() -> None:
    chosen = extremes([[15.0, 20.0], [30.0, 10.0]])
    assert chosen is not None
    assert (chosen.clip, chosen.largest, chosen.smallest) == (0, 1, 0)
    assert chosen.r2 == 0


def test_frames_without_the_chamber_are_not_its_smallest() -> None:
    chosen = extremes([[NAN, 15.0, 20.0, NAN, 12.0]])
    assert chosen is not None
    assert (chosen.largest, chosen.smallest) == (2, 4)


def test_a_clip_without_the_chamber_is_not_chosen() -> None:
    chosen = extremes([[NAN, NAN], [15.0, 20.0]])
    assert chosen is not None
    assert chosen.clip == 1
    assert extremes([[NAN, NAN], []]) is None
    assert extremes([]) is None


def test_settings_that_make_no_sense_are_refused() -> None:
    for frames in (0.0, -3.0, NAN):
        with pytest.raises(MeasurementError, match="frames_per_beat"):
            sinusoid_r2(beats(2, 30), frames_per_beat=frames)
    with pytest.raises(MaskError, match="one row"):
        sinusoid_r2(np.ones((3, 4)))


def test_only_the_ranking_of_several_clips_needs_scipy(monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("scipy"):
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    one = extremes([beats(2, 30)])
    assert one is not None
    assert one.r2 is None
    with pytest.raises(BackendUnavailableError, match=re.escape(install_hint("echo"))):
        extremes([beats(2, 30), beats(1, 30)])


def test_importing_the_report_does_not_load_scipy() -> None:
    assert loaded_by(
        "import fastseg.echo.cardiac_cycle, fastseg.echo.report", ["scipy", "fastseg.echo.report"]
    ) == ["fastseg.echo.report"]
