"""Promises of ``fastseg.echo.report``: from chambers in frames to the numbers of a report."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from fastseg.echo import volumes
from fastseg.echo.findings import Finding, Place, find
from fastseg.echo.report import INDEXED, Study, study
from fastseg.echo.views import VIEWS
from fastseg.errors import MeasurementError
from fastseg.measure import DISKS, measure
from fastseg.results import to_json
from tests.helpers.chamber_bodies import CM_PER_PIXEL, chamber, clip, draw, ellipse, named


def heart(mode: str = "default") -> list[Finding]:
    """A beat of every chamber in every view."""
    known = {"mode": mode}
    return [
        *clip("a2c", "LV", [33.6, 25.2, 16.8], **known),
        *clip("a2c", "LA", [12.0, 16.8, 21.0], **known),
        *clip("a4c", "LV", [25.2, 33.6, 21.0], **known),
        *clip("a4c", "LA", [12.6, 12.6, 16.8], **known),
        *clip("a4c", "RA", [8.4, 16.8, 12.6], **known),
        *clip("a4c", "RV", [10.0, 16.0, 12.0], **known),
        *clip("sax", "cavity", [9.0, 12.0, 8.0], **known),
        *clip("sax", "disc", [18.0, 20.0, 17.0], **known),
    ]


def disks(two: float, four: float) -> float:
    """Volume of a chamber of 8.4 cm with such areas, whose diameters are area / length."""
    return math.pi / 4 * 8.4 * (two / 8.4) * (four / 8.4)


def test_a_whole_heart_has_every_row() -> None:
    report = study(heart(), patient="p7")
    assert [row.name for row in report.rows if math.isnan(row.value)] == []
    assert all(row.reason == "" and row.frames for row in report.rows)
    expected = {
        "lv_ed_area_a2c_cm2": 33.6,
        "lv_es_area_a4c_cm2": 21.0,
        "lv_ed_length_a4c_cm": 8.4,
        "lv_edv_biplane_ml": disks(33.6, 33.6),
        "lv_esv_biplane_ml": disks(16.8, 21.0),
        "lv_esv_a2c_ml": disks(16.8, 16.8),
        "lv_ef_percent": 100 * (1 - 16.8 * 21.0 / 33.6**2),
        "la_area_a2c_cm2": 21.0,
        "la_volume_biplane_ml": disks(21.0, 16.8),
        "la_volume_min_biplane_ml": disks(12.0, 12.6),
        "ra_area_cm2": 16.8,
        "ra_volume_ml": disks(16.8, 16.8),
        "rv_eda_cm2": 16.0,
        "rv_esa_cm2": 10.0,
        "rv_fac_percent": 37.5,
        "sax_outer_area_cm2": 20.0,
        "sax_inner_area_cm2": 12.0,
        "lv_mass_g": volumes.mass_g(outer_area_cm2=20.0, inner_area_cm2=12.0, length_cm=8.4),
    }
    for name, value in expected.items():
        assert report[name].value == pytest.approx(value), name


def test_a_row_says_which_frames_it_was_made_from() -> None:
    report = study(heart())
    assert report["lv_edv_biplane_ml"].frames == ("a2c frame 0", "a4c frame 1")
    assert report["lv_ef_percent"].frames == (
        "a2c frame 0",
        "a4c frame 1",
        "a2c frame 2",
        "a4c frame 2",
    )


def test_the_order_of_findings_does_not_matter() -> None:
    forth, back = study(heart()), study(reversed(heart()))
    assert [row.value for row in forth.rows] == [row.value for row in back.rows]


def test_indexed_rows_are_there_only_with_a_body_surface_area() -> None:
    bare, with_bsa = study(heart()), study(heart(), bsa_m2=2.0)
    names = {row.name for row in bare.rows}
    assert not names & set(INDEXED.values())
    for absolute, index in INDEXED.items():
        assert with_bsa[index].value == pytest.approx(bare[absolute].value / 2.0)
    assert not any("rv" in row.name and "m2" in row.name[-4:] for row in with_bsa.rows[-5:])
    with pytest.raises(MeasurementError, match="body surface"):
        study([], bsa_m2=-1.0)


def test_a_missing_view_is_named_and_the_others_are_measured() -> None:
    report = study(finding for finding in heart() if finding.place.view == "a4c")
    assert report["lv_edv_biplane_ml"].reason == "there is no a2c frame"
    assert report["lv_mass_g"].reason == "there is no sax frame; there is no a2c frame"
    assert report["la_ef_percent"].reason == "there is no a2c frame"
    assert report["lv_edv_a4c_ml"].value == pytest.approx(disks(33.6, 33.6))
    assert report["lv_ef_a4c_percent"].value == pytest.approx(100 * (1 - (21.0 / 33.6) ** 2))
    assert report["rv_fac_percent"].value == pytest.approx(37.5)


def test_nothing_at_all_gives_every_row_with_its_reason() -> None:
    report, whole = study([]), study(heart())
    assert [row.name for row in report.rows] == [row.name for row in whole.rows]
    assert all(math.isnan(row.value) and row.reason for row in report.rows)


def test_one_frame_has_no_ejection_fraction() -> None:
    names = ("LA", "LV", "RA", "RV")
    report = study(Finding(Place("a4c"), chamber(name)) for name in names)
    for name in ("lv_ef_percent", "lv_ef_a4c_percent", "rv_fac_percent", "lv_edv_a4c_ml"):
        assert math.isnan(report[name].value), name
    assert report["rv_eda_cm2"].reason == "a4c shows RV in one frame, and a beat takes two"
    assert report["ra_volume_ml"].value > 0
    assert report["ra_volume_ml"].caution == "from the only frame of a4c that shows RA"


def test_a_chamber_found_once_in_a_clip_has_no_ejection_fraction() -> None:
    empty = {"area_cm2": math.nan, "length_cm": math.nan, "reason": "no LV was found"}
    lost = [Finding(Place("a4c", frame), chamber("LV", **empty)) for frame in (1, 2)]
    report = study([*clip("a4c", "LV", [25.0]), *lost])
    assert math.isnan(report["lv_ef_a4c_percent"].value)
    report = study(lost)
    assert report["lv_ed_area_a4c_cm2"].reason == "no LV was found in a4c"


def test_a_chamber_without_an_axis_keeps_its_area() -> None:
    speck = {"length_cm": math.nan, "reason": "LV has 1 pixels and no axis that can be measured"}
    findings = [
        *clip("a4c", "LV", [30.0, 20.0]),
        Finding(Place("a4c", 2), chamber("LV", area_cm2=5.0, **speck)),
    ]
    report = study(findings)
    assert report["lv_es_area_a4c_cm2"].value == pytest.approx(5.0)
    assert report["lv_esv_a4c_ml"].reason == speck["reason"]
    assert speck["reason"] in report["lv_ef_a4c_percent"].reason


def test_each_chamber_takes_the_clip_with_the_best_sinusoid() -> None:
    phase = np.linspace(0, 4 * math.pi, 40)
    even = (25 + 6 * np.sin(phase)).tolist()
    wild = np.random.default_rng(0).uniform(5, 60, 40).tolist()
    findings = [
        *clip("a4c", "LV", wild, clip="first"),
        *clip("a4c", "LV", even, clip="second"),
        *clip("a4c", "RV", even, clip="first"),
        *clip("a4c", "RV", wild, clip="second"),
    ]
    report = study(findings)
    assert report["lv_ed_area_a4c_cm2"].value == pytest.approx(max(even), rel=0.01)
    assert report["rv_esa_cm2"].value == pytest.approx(min(even), rel=0.03)
    assert report["rv_esa_cm2"].frames[0].startswith("first frame")


def test_views_whose_axes_differ_are_pointed_out() -> None:
    findings = [
        *clip("a2c", "LV", [30.0, 20.0], length_cm=6.0),
        *clip("a4c", "LV", [30.0, 20.0], length_cm=8.0),
    ]
    assert "6.0 and 8.0 cm" in study(findings)["lv_edv_biplane_ml"].caution
    assert study(heart())["lv_edv_biplane_ml"].caution == ""


def test_a_chamber_in_pieces_is_pointed_out() -> None:
    report = study(clip("a4c", "RA", [16.0, 12.0], pieces=3))
    assert report["ra_volume_ml"].caution == "RA is in 3 pieces in a4c frame 0"


def test_a_chamber_that_the_network_doubts_is_withheld_and_as_published_cautioned() -> None:
    doubted = [replace(one, score=0.25) for one in clip("a4c", "RA", [16.0, 12.0])]
    row = study(doubted)["ra_volume_ml"]
    assert math.isnan(row.value)
    assert row.reason.startswith("0 of the 2 frames of a4c show RA at an expected IoU of 0.5")
    assert study(doubted[:1])["ra_volume_ml"].reason == (
        "the network expects RA in a4c frame 0 at an IoU of 0.25"
    )
    published = [
        replace(one, measurement=replace(one.measurement, mode="source")) for one in doubted
    ]
    row = study(published)["ra_volume_ml"]
    assert row.value > 0
    assert row.caution == "the network expects RA at an IoU of 0.25"
    sure = [replace(one, score=0.75) for one in doubted]
    assert study(sure)["ra_volume_ml"].caution == ""


@pytest.mark.parametrize(("smallest", "length"), [(5.0, 4.0), (29.0, 12.0)])
def test_a_share_that_no_heart_has_is_withheld(smallest: float, length: float) -> None:
    shrunken = clip("a4c", "LV", [30.0, smallest], length_cm=length)[1]
    row = study([clip("a4c", "LV", [30.0])[0], shrunken])["lv_ef_a4c_percent"]
    assert math.isnan(row.value)
    assert "is outside of 0 to 89 %, the mean of healthy hearts + 5 SD in Lang" in row.reason
    assert study(heart())["lv_ef_a4c_percent"].reason == ""


def test_an_area_that_no_heart_has_is_withheld_with_all_that_follows_from_it() -> None:
    report = study(clip("a4c", "LV", [150.0, 60.0]))
    for name in ("lv_ed_area_a4c_cm2", "lv_edv_a4c_ml", "lv_ef_a4c_percent"):
        assert math.isnan(report[name].value), name
        assert "150.0 cm2 in a4c frame 0 is outside of 4.7 to 104 cm2" in report[name].reason
    assert report["lv_es_area_a4c_cm2"].value == pytest.approx(60.0)


def test_an_atrium_missed_in_one_view_withholds_the_biplane_volume() -> None:
    lost = {"area_cm2": math.nan, "length_cm": math.nan, "reason": "no LA was found"}
    seen, missed = clip("a2c", "LA", [18.0, 12.0]), clip("a4c", "LA", [18.0, 12.0])
    empty = [replace(one, measurement=chamber("LA", **lost)) for one in missed]
    row = study([*seen, *empty])["la_volume_biplane_ml"]
    assert row.reason == "no LA was found in a4c"
    doubted = [replace(one, score=0.1) for one in missed]
    row = study([*seen, *doubted])["la_volume_biplane_ml"]
    assert math.isnan(row.value)
    assert "of the 2 frames of a4c show LA" in row.reason
    assert study([*seen, *missed])["la_volume_biplane_ml"].value > 0


def tilted(ventricle: float, atrium_beside: bool = True) -> Finding:
    """An LV of 8.4 cm turned by an angle, with its atrium straight below or none."""
    masks = np.stack(
        [
            draw(ellipse(2.2, 2.0), centre=(5, 0)) & atrium_beside,
            draw(ellipse(4.2, 2.4), centre=(-2, 0), tilt=ventricle),
        ]
    )
    return find(named("a2c", masks), Place("a2c"), cm_per_pixel=CM_PER_PIXEL)[1]


def test_an_axis_across_the_chamber_is_cautioned_and_its_volume_withheld() -> None:
    for beside in (True, False):
        across, along = tilted(1.2, beside), tilted(0.6, beside)
        assert along.axis_doubt == ""
        assert math.isnan(across.volume_ml)
        assert "the axis runs across LV: 69 degrees" in across.axis_doubt
        assert ("the line to LA" if beside else "the vertical") in across.axis_doubt
    beat = [
        replace(one, place=replace(one.place, frame=frame))
        for frame, one in enumerate((tilted(1.2), tilted(1.2)))
    ]
    report = study(beat)
    for name in ("lv_edv_a2c_ml", "lv_ef_a2c_percent", "lv_mass_g"):
        assert math.isnan(report[name].value), name
    assert "runs across LV" in report["lv_edv_a2c_ml"].reason
    assert "runs across LV" in report["lv_ed_length_a2c_cm"].caution
    assert report["lv_ed_area_a2c_cm2"].caution == ""


def test_a_heart_that_lies_flat_keeps_its_axis() -> None:
    masks = np.stack(
        [
            draw(ellipse(2.2, 2.0), centre=(1.5, 5.5), tilt=1.2),
            draw(ellipse(4.2, 2.4), centre=(-1, -1), tilt=1.2),
        ]
    )
    found = find(named("a2c", masks), Place("a2c"), cm_per_pixel=CM_PER_PIXEL)
    assert found[1].axis_doubt == ""
    assert found[1].volume_ml > 0


def test_source_mode_has_mass_from_the_first_a2c_and_no_atria() -> None:
    findings = heart("source")
    long = [
        replace(one, measurement=replace(one.measurement, length_cm=9.9))
        if (one.place.view, one.place.frame, one.measurement.name) == ("a2c", 2, "LV")
        else one
        for one in findings
    ]
    moved = [
        replace(one, place=replace(one.place, frame=2 - one.place.frame))
        if one.place.view == "a2c"
        else one
        for one in long
    ]
    expected = volumes.mass_g(outer_area_cm2=20.0, inner_area_cm2=12.0, length_cm=9.9)
    assert study(moved)["lv_mass_g"].value == pytest.approx(expected)
    assert "atria" in study(moved)["la_ef_percent"].reason
    modern = [replace(one, measurement=replace(one.measurement, mode="default")) for one in moved]
    assert study(modern)["lv_mass_g"].value < expected


def test_modes_must_not_be_mixed() -> None:
    with pytest.raises(MeasurementError, match="default and source"):
        study([*clip("a4c", "LV", [20.0]), *clip("a2c", "LV", [20.0], mode="source")])


def test_a_view_that_does_not_exist_is_refused() -> None:
    with pytest.raises(MeasurementError, match="a2c, a4c, sax, not 'a3c'"):
        study(clip("a3c", "LV", [20.0]))


def test_a_row_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(MeasurementError, match="lv_ef_percent"):
        study([])["ejection"]


def test_masks_become_findings_under_the_names_of_their_view() -> None:
    masks = named("a2c", np.stack([draw(ellipse(2, 1.6)), draw(ellipse(4, 2))]))
    found = find(masks, Place("a2c", 3), cm_per_pixel=CM_PER_PIXEL)
    assert [(one.measurement.name, str(one.place)) for one in found] == [
        ("LA", "a2c frame 3"),
        ("LV", "a2c frame 3"),
    ]
    assert [one.score for one in found] == masks.scores.tolist()


def test_an_atrium_has_an_upright_axis_and_a_ventricle_its_own() -> None:
    masks = np.stack([draw(ellipse(3.0, 2.0), tilt=1.4), draw(ellipse(4.2, 2.0), tilt=1.1)])
    atrium, ventricle = find(named("a2c", masks), Place("a2c"), cm_per_pixel=CM_PER_PIXEL)
    (top_x, top_y), (bottom_x, bottom_y) = atrium.measurement.axis_px
    assert abs(bottom_x - top_x) < bottom_y - top_y
    assert ventricle.measurement.length_cm == pytest.approx(8.4, rel=0.01)


def test_the_wall_is_not_measured_by_its_filled_mask() -> None:
    cavity, disc = draw(ellipse(2.2, 2.2)), draw(ellipse(3.1, 3.1))
    found = find(named("sax", np.stack([cavity, disc, disc])), Place("sax"), cm_per_pixel=0.1)
    assert [one.measurement.name for one in found] == ["cavity", "disc"]
    assert found[1].measurement.area_cm2 == pytest.approx(0.01 * disc.sum())


def test_masks_of_another_view_are_refused() -> None:
    masks = named("a2c", np.zeros((2, 8, 8), np.bool_))
    with pytest.raises(MeasurementError, match="LA, LV, RA, RV, but the masks show LA, LV"):
        find(masks, Place("a4c"), cm_per_pixel=0.1)
    with pytest.raises(MeasurementError, match="nothing that has a name"):
        find(replace(masks, names=None), Place("a2c"), cm_per_pixel=0.1)


def test_a_study_can_be_written_as_json() -> None:
    report = json.loads(to_json(study(heart()[:2], patient="p7").as_dict()))
    assert report["patient"] == "p7"
    assert report["rows"]["lv_ef_percent"]["value"] is None
    assert len(report["findings"][0]["diameters_cm"]) == DISKS
    assert report["findings"][0]["volume_ml"] == pytest.approx(disks(33.6, 33.6))
    assert "volume_ml" not in clip("sax", "disc", [20.0])[0].as_dict()


def test_every_view_has_its_chambers() -> None:
    assert set(VIEWS) == {"a2c", "a4c", "sax"}
    assert isinstance(study([]), Study)


def test_measure_lays_the_axes_as_the_report_by_default() -> None:
    masks = np.stack([draw(ellipse(3.0, 2.0), tilt=1.4), draw(ellipse(4.2, 2.0), tilt=1.1)])
    heart = named("a2c", masks)
    found = find(heart, Place("a2c"), cm_per_pixel=CM_PER_PIXEL)
    lengths = [one.measurement.length_cm for one in found]
    assert [one.length_cm for one in measure(heart, cm_per_pixel=CM_PER_PIXEL)] == lengths
    free, upright = (
        [one.length_cm for one in measure(heart, cm_per_pixel=CM_PER_PIXEL, upright=told)]
        for told in (False, True)
    )
    assert free[0] > 1.2 * lengths[0]
    assert free[1] == lengths[1]
    assert upright[0] == lengths[0]
    assert upright[1] != lengths[1]
