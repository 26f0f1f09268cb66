"""Promises of ``fastseg.echo.beats``: the frames that take part, beats and their extremes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fastseg.echo.beats import extremes_of_beats, find_beats, usable, with_own_extremes
from fastseg.echo.report import study
from fastseg.errors import MaskError
from fastseg.imaging import Timing
from tests.helpers.chamber_bodies import clip

FRAME_MS = 40.0


def wave(
    beats: float, frames: int, *, middle: float = 30.0, reach: float = 8.0, start: float = 0.0
) -> np.ndarray:
    """Areas that begin at their largest, or a part of a beat after it, and repeat."""
    return middle + reach * np.cos(2 * math.pi * (beats * np.arange(frames) / frames + start))


def everyone(areas: np.ndarray) -> np.ndarray:
    return np.ones(len(areas), np.bool_)


def test_frames_that_the_network_doubts_take_no_part() -> None:
    scores = [0.9, 0.49, 0.5, math.nan, 0.9]
    areas = [20.0, 20.0, 20.0, 20.0, math.nan]
    assert usable(areas, scores).tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("wrong", [0.0, 2.0, 60.0])
def test_an_area_that_does_not_agree_with_its_neighbours_takes_no_part(wrong: float) -> None:
    areas = wave(2, 50)
    areas[17] = wrong
    used = usable(areas, np.full(50, 0.9))
    assert np.flatnonzero(~used).tolist() == [17]


def test_every_frame_of_an_even_beat_takes_part() -> None:
    for frames in (12, 25, 60):
        areas = wave(1, frames, reach=12.0)
        assert usable(areas, np.full(frames, 0.9)).all()


def test_rows_of_different_length_are_refused() -> None:
    with pytest.raises(MaskError, match="one a frame"):
        usable([20.0, 21.0], [0.9])


def test_r_waves_bound_the_beats_before_anything_else() -> None:
    timing = Timing(frame_ms=FRAME_MS, heart_rate=60, r_wave_ms=(200.0, 1000.0, 2080.0))
    areas = wave(2.4, 60)
    spans, found_by = find_beats(areas, everyone(areas), timing=timing)
    assert (spans, found_by) == (((5, 25), (25, 52)), "R wave")


@pytest.mark.parametrize("timing", [None, Timing(frame_ms=FRAME_MS, heart_rate=72)])
def test_a_sinusoid_finds_beats_with_both_extremes_inside(timing) -> None:
    areas = wave(3, 66)
    spans, found_by = find_beats(areas, everyone(areas), timing=timing)
    assert found_by == "sinusoid"
    for span, expected in zip(spans, ((16, 38), (38, 60)), strict=True):
        assert span == pytest.approx(expected, abs=1)
    beats = extremes_of_beats(areas, everyone(areas), spans)
    for beat, largest, smallest in zip(beats, (22, 44), (33, 55), strict=True):
        assert abs(beat.largest - largest) <= 1
        assert abs(beat.smallest - smallest) <= 1


def test_noise_does_not_change_the_beats() -> None:
    areas = wave(3, 66) + np.random.default_rng(0).normal(0, 1.0, 66)
    spans, found_by = find_beats(areas, everyone(areas))
    assert found_by == "sinusoid"
    assert len(spans) == 2
    assert all(abs(end - start - 22) <= 1 for start, end in spans)


def test_the_area_curve_finds_beats_that_no_sinusoid_fits() -> None:
    narrow = np.full(70, 30.0)
    for at in (5, 26, 55):  # two beats of different length, and short contractions
        narrow[at : at + 4] = 15.0
    spans, found_by = find_beats(narrow, everyone(narrow), timing=Timing(FRAME_MS, 60.0))
    assert found_by == "area curve"
    assert [end - start for start, end in spans] == [21, 29]


def test_a_known_heart_rate_cuts_a_clip_without_a_pattern() -> None:
    flat = np.full(60, 30.0)
    spans, found_by = find_beats(flat, everyone(flat), timing=Timing(FRAME_MS, 60.0))
    assert found_by == "heart rate"
    assert {end - start for start, end in spans} == {25}
    assert find_beats(flat, everyone(flat)) == (((0, 60),), "whole clip")


@pytest.mark.parametrize(("place", "wrong"), [(0, 60.0), (22, 43.0), (33, 16.0), (34, 17.0)])
def test_no_single_frame_makes_an_extreme(place: int, wrong: float) -> None:
    areas = wave(3, 66)
    clean = extremes_of_beats(areas, everyone(areas), [(16, 38)])[0]
    spoiled = areas.copy()
    spoiled[place] = wrong
    (beat,) = extremes_of_beats(spoiled, everyone(areas), [(16, 38)])
    for frame, expected in ((beat.largest, clean.largest), (beat.smallest, clean.smallest)):
        assert spoiled[frame] == pytest.approx(areas[expected], abs=0.4)
    assert areas[clean.largest] == pytest.approx(38.0, abs=0.35)
    assert areas[clean.smallest] == pytest.approx(22.0, abs=0.35)


def test_a_beat_of_few_frames_has_its_largest_and_its_smallest() -> None:
    areas = np.array([30.0, 24.0, 18.0, 25.0])
    (beat,) = extremes_of_beats(areas, everyone(areas), [(0, 4)])
    assert (beat.largest, beat.smallest, beat.used) == (0, 2, 4)


def test_a_beat_of_which_half_takes_no_part_does_not_count() -> None:
    areas, used = wave(2, 50), np.ones(50, np.bool_)
    used[26:40] = False
    beats = extremes_of_beats(areas, used, [(0, 25), (25, 50)])
    assert [(beat.start, beat.end) for beat in beats] == [(0, 25)]


def test_a_beat_that_fails_does_not_move_the_median() -> None:
    areas = np.concatenate(
        [wave(1, 25, middle=middle, start=-0.25) for middle in (30.0, 31.0, 45.0)]
    )
    timing = Timing(FRAME_MS, 60.0, tuple(1000.0 * beat for beat in range(4)))
    report = study(clip("a4c", "LV", areas.tolist()), timing=timing)
    row = report["lv_ed_area_a4c_cm2"]
    assert row.beats == 3
    assert row.value == pytest.approx(39.0, abs=0.4)
    assert (row.low, row.high) == pytest.approx((38.0, 53.0), abs=0.4)
    assert len(row.frames) == 3
    (curve,) = report.curves
    assert curve.found_by == "R wave"
    assert [beat.used for beat in curve.beats] == [25, 25, 25]


def test_the_ejection_fraction_is_the_median_of_the_beats_own() -> None:
    beats = [wave(1, 25, reach=reach, start=-0.25) for reach in (4.0, 8.0, 6.0)]
    timing = Timing(FRAME_MS, 60.0, (0.0, 1000.0, 2000.0, 3000.0))
    row = study(clip("a4c", "LV", np.concatenate(beats).tolist()), timing=timing)[
        "lv_ef_a4c_percent"
    ]
    expected = [100 * (1 - ((30 - r) / (30 + r)) ** 2) for r in (4.0, 6.0, 8.0)]
    assert [row.low, row.value, row.high] == pytest.approx(expected, abs=2.0)


def test_two_views_give_the_pairs_of_their_beats() -> None:
    timing = Timing(FRAME_MS, 60.0, (0.0, 1000.0, 2000.0))
    two = clip("a2c", "LV", np.tile(wave(1, 25), 2).tolist(), clip="one")
    four = clip("a4c", "LV", wave(1, 25).tolist(), clip="other")
    report = study([*two, *four], timing={"one": timing})
    assert report["lv_edv_biplane_ml"].beats == 2
    assert report["lv_ef_percent"].beats == 2
    assert report["lv_edv_a4c_ml"].beats == 1
    assert math.isnan(report["lv_edv_a4c_ml"].low)


def test_frames_that_fail_in_one_clip_cannot_become_end_diastole_or_end_systole() -> None:
    areas = wave(2, 50)
    good = clip("a4c", "RV", areas.tolist())
    failing = [
        replace(one, score=0.1, measurement=replace(one.measurement, area_cm2=area))
        for one, area in ((good[7], 0.4), (good[8], 70.0))
    ]
    spoiled = study([*good[:7], *failing, *good[9:]])["rv_fac_percent"]
    clean = study(good)["rv_fac_percent"]
    assert spoiled.value == pytest.approx(clean.value, abs=2.0)


def test_a_clip_that_shows_less_than_a_beat_says_so() -> None:
    timing = Timing(FRAME_MS, 60.0)
    row = study(clip("a4c", "LV", wave(0.4, 10).tolist()), timing=timing)["lv_ef_a4c_percent"]
    assert "the clip of a4c shows 10 of the 25 frames of a beat" in row.caution


def test_frames_beside_an_extreme_that_take_no_part_are_pointed_out() -> None:
    good = clip("a4c", "LV", wave(1, 25).tolist())
    found = [
        replace(one, score=0.1 if 12 <= frame <= 14 else 0.9) for frame, one in enumerate(good)
    ]
    report = study(found)
    assert "beside the smallest LV of a4c take no part" in report["lv_es_area_a4c_cm2"].caution
    assert "22 of the 25 frames of a beat took part" in report["lv_es_area_a4c_cm2"].caution
    assert "beside" not in report["lv_ed_area_a4c_cm2"].caution


def test_a_beat_cut_through_a_contraction_is_left_out() -> None:
    areas = np.full(64, 24.0)
    areas[20:34] = 24 - 13 * np.sin(np.linspace(0, math.pi, 14))
    cut = extremes_of_beats(areas, everyone(areas), [(5, 30), (30, 55)])
    assert [beat.smallest for beat in cut][1] == 30
    kept = with_own_extremes(cut, areas, everyone(areas))
    assert [(beat.start, beat.end) for beat in kept] == [(5, 30)]
    even = wave(3, 75, start=-0.25)
    whole = extremes_of_beats(even, everyone(even), [(0, 25), (25, 50), (50, 75)])
    assert with_own_extremes(whole, even, everyone(even)) == whole
