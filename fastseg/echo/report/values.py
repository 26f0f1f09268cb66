"""One patient's echocardiogram: from chambers measured in frames to the numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from fastseg.echo.findings import Finding
from fastseg.echo.report.heart import Heart, Phase, Pick
from fastseg.echo.report.limits import area_fault, share_fault
from fastseg.echo.report.rows import Row, Study, joined
from fastseg.echo.report.view_check import layout_doubts
from fastseg.echo.volumes import (
    area_length_volume_ml,
    biplane_volume_ml,
    ejection_fraction_percent,
    fractional_area_change_percent,
    indexed,
    longer_axis_cm,
    mass_g,
    single_plane_volume_ml,
)
from fastseg.errors import MeasurementError
from fastseg.inputs.numbers import shown
from fastseg.inputs.text import texts
from fastseg.measure import Measurement

if TYPE_CHECKING:
    from fastseg.imaging.image import Timing

FORESHORTENED = 0.1
"""Share by which the axes of two views may differ before a caution is given (Lang et al. 2015)."""

INDEXED = {
    "lv_edv_biplane_ml": "lv_edv_index_ml_per_m2",
    "lv_esv_biplane_ml": "lv_esv_index_ml_per_m2",
    "la_volume_biplane_ml": "la_volume_index_ml_per_m2",
    "ra_volume_ml": "ra_volume_index_ml_per_m2",
    "lv_mass_g": "lv_mass_index_g_per_m2",
}
"""Rows that are also given for each square metre of body surface. Areas of the RV are not."""

_APICAL = ("a2c", "a4c")


def study(
    findings: Iterable[Finding],
    *,
    patient: str = "",
    bsa_m2: float | None = None,
    frames_per_beat: float | None = None,
    timing: Timing | Mapping[str, Timing] | None = None,
    cautions: Sequence[str] = (),
) -> Study:
    """Combine the findings of one patient to a report.

    In each view and for each chamber the clip with the best sinusoid is chosen, and in each of its
    beats the frame of largest area (end-diastole of a ventricle, maximum of an atrium) and the one
    of smallest area (end-systole). Values are medians over the beats. Frames that the network
    doubts or that do not agree with their neighbours take no part, and a number that no heart has
    is withheld. ``docs/echo.md`` has every rule and formula.

    Args:
        findings: Every chamber of every frame, in any order.
        patient: Whose they are, for the report.
        bsa_m2: Body surface area in square metres; indexed rows are there only if it is given.
        frames_per_beat: Frames of a beat, instead of those by the heart rate of ``timing``.
        timing: Time between frames, heart rate and R waves: of every clip, or by the name of the
            clip (``Place.clip``).
        cautions: Sentences about the frames that hold for every row.

    Returns:
        Always the same rows in the same order. A missing value is NaN with its reason.

    Raises:
        BackendUnavailableError: There are several clips of a view, and SciPy is not installed.
        MeasurementError: A view is unknown, modes are mixed, or a setting makes no sense.
    """
    found = tuple(_each(findings))
    heart = Heart(found, _timings(timing, found), frames_per_beat)
    rows = [*_left_ventricle(heart), *_left_atrium(heart), *_right_heart(heart), *_mass(heart)]
    if bsa_m2 is not None:
        rows += [_per_area(row, bsa_m2) for row in rows if row.name in INDEXED]
    curves = () if heart.as_published else tuple(heart.curves())
    said = texts(cautions, "cautions", MeasurementError)
    doubts = tuple(dict.fromkeys((*said, *layout_doubts(found))))
    return Study(patient, tuple(rows), found, curves, doubts)


def _each(findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        given = iter(findings)
    except TypeError as error:
        raise MeasurementError(f"findings must be a list, not {shown(findings)}.") from error
    for one in given:
        if not isinstance(one, Finding):
            raise MeasurementError(
                f"findings must be what fastseg.echo.find returned, not {shown(one)}."
            )
        yield one


def _timings(
    timing: Timing | Mapping[str, Timing] | None, findings: Sequence[Finding]
) -> Mapping[str, Timing]:
    if timing is None:
        return {}
    from fastseg.imaging.image import Timing

    if isinstance(timing, Timing):
        return dict.fromkeys((one.place.clip for one in findings), timing)
    if isinstance(timing, Mapping) and all(isinstance(one, Timing) for one in timing.values()):
        return timing
    raise MeasurementError(
        "timing must be a fastseg.imaging.Timing, or one for each clip by its name, not "
        f"{shown(timing)}."
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """The picks of one view: of each beat the findings that belong together."""

    picks: tuple[Pick, ...]

    @property
    def beats(self) -> list[tuple[Finding, ...]]:
        return list(zip(*(pick.findings for pick in self.picks), strict=True))


def _left_ventricle(heart: Heart) -> Iterator[Row]:
    volumes: dict[str, dict[str, Row]] = {}
    picks: dict[str, list[Pick]] = {}
    for moment, phase in _phases("ed", "es"):
        picks[moment] = [heart.pick(view, "LV", phase, alone=False) for view in _APICAL]
        for view, pick in zip(_APICAL, picks[moment], strict=True):
            yield _row(heart, f"lv_{moment}_area_{view}_cm2", [pick], _area)
            yield _length_row(heart, f"lv_{moment}_length_{view}_cm", pick)
        volumes[moment] = _volumes(heart, f"lv_{moment}v", picks[moment])
        yield from volumes[moment].values()
    both = [_Group(pair) for pair in zip(picks["ed"], picks["es"], strict=True)]
    yield _ejection(heart, "lv_ef_percent", both)
    for view, group in zip(_APICAL, both, strict=True):
        yield _ejection(heart, f"lv_ef_{view}_percent", [group])


def _left_atrium(heart: Heart) -> Iterator[Row]:
    largest = [heart.pick(view, "LA", "largest") for view in _APICAL]
    for view, pick in zip(_APICAL, largest, strict=True):
        yield _row(heart, f"la_area_{view}_cm2", [pick], _area)
        yield _length_row(heart, f"la_length_{view}_cm", pick)
    yield from _volumes(heart, "la_volume", largest).values()
    smallest = [_smallest_atrium(heart, view) for view in _APICAL]
    yield _row(heart, "la_volume_min_biplane_ml", smallest, biplane_volume_ml, by_disks=True)
    groups = [_Group(pair) for pair in zip(largest, smallest, strict=True)]
    yield _ejection(heart, "la_ef_percent", groups)


def _smallest_atrium(heart: Heart, view: str) -> Pick:
    if heart.as_published:
        return Pick((), "the published method takes atria at their largest only")
    return heart.pick(view, "LA", "smallest", alone=False)


def _right_heart(heart: Heart) -> Iterator[Row]:
    atrium = heart.pick("a4c", "RA", "largest")
    yield _row(heart, "ra_area_cm2", [atrium], _area)
    yield _length_row(heart, "ra_length_cm", atrium)
    yield _row(heart, "ra_volume_ml", [atrium], single_plane_volume_ml, by_disks=True)
    largest, smallest = (
        heart.pick("a4c", "RV", phase, alone=False) for _, phase in _phases("ed", "es")
    )
    yield _row(heart, "rv_eda_cm2", [largest], _area)
    yield _row(heart, "rv_esa_cm2", [smallest], _area)

    def share(diastole: Measurement, systole: Measurement) -> float:
        return fractional_area_change_percent(diastole.area_cm2, systole.area_cm2)

    yield _of_groups(heart, "rv_fac_percent", [_Group((largest, smallest))], share)


def _mass(heart: Heart) -> Iterator[Row]:
    outer = heart.pick("sax", "disc", "largest")
    inner = heart.beside(outer, "cavity")
    yield _row(heart, "sax_outer_area_cm2", [outer], _area)
    yield _row(heart, "sax_inner_area_cm2", [inner], _area)
    # As published, the two-chamber view gives whatever frame its clip begins with.
    two = heart.pick("a2c", "LV", "first" if heart.as_published else "largest")
    four = heart.pick("a4c", "LV", "largest")

    def mass(disc: Measurement, cavity: Measurement, *apical: Measurement) -> float:
        return mass_g(
            outer_area_cm2=disc.area_cm2,
            inner_area_cm2=cavity.area_cm2,
            length_cm=longer_axis_cm(*apical),
        )

    groups = [_Group((outer, inner)), _Group((two,)), _Group((four,))]
    yield _of_groups(heart, "lv_mass_g", groups, mass, by_disks=True)


def _phases(largest: str, smallest: str) -> tuple[tuple[str, Phase], tuple[str, Phase]]:
    return (largest, "largest"), (smallest, "smallest")


def _volumes(heart: Heart, name: str, picks: Sequence[Pick]) -> dict[str, Row]:
    """Compute the volumes of a chamber by every method, from the same frames."""
    rows = {
        view: _row(heart, f"{name}_{view}_ml", [pick], single_plane_volume_ml, by_disks=True)
        for view, pick in zip(_APICAL, picks, strict=True)
    }
    doubt = _foreshortening(picks)
    rows["biplane"] = _row(
        heart, f"{name}_biplane_ml", picks, biplane_volume_ml, by_disks=True, caution=doubt
    )
    rows["area_length"] = _row(
        heart, f"{name}_area_length_ml", picks, area_length_volume_ml, by_disks=True
    )
    return rows


def _ejection(heart: Heart, name: str, groups: Sequence[_Group]) -> Row:
    """Compute an ejection fraction: each group has the largest and the smallest of a view."""
    volume = biplane_volume_ml if len(groups) == 2 else single_plane_volume_ml

    def share(*chambers: Measurement) -> float:
        return ejection_fraction_percent(volume(*chambers[::2]), volume(*chambers[1::2]))

    doubts = [] if len(groups) < 2 else [
        _foreshortening([group.picks[phase] for group in groups]) for phase in (0, 1)
    ]  # fmt: skip
    return _of_groups(heart, name, groups, share, by_disks=True, caution=joined(doubts))


def _foreshortening(picks: Sequence[Pick]) -> str:
    """Say that the axes of two views differ, by the median over the beats of each."""
    lengths = [
        float(np.median([one.measurement.length_cm for one in pick.findings]))
        for pick in picks
        if pick.findings
    ]
    if len(lengths) < 2 or not min(lengths) < (1 - FORESHORTENED) * max(lengths):
        return ""
    axes = " and ".join(f"{length:.1f}" for length in lengths)
    return f"the axes of the two views, {axes} cm, differ: one of them may be foreshortened"


def _length_row(heart: Heart, name: str, pick: Pick) -> Row:
    doubts = (one.axis_doubt for one in pick.findings)
    return _row(heart, name, [pick], _length, caution=joined(doubts))


def _row(
    heart: Heart,
    name: str,
    picks: Sequence[Pick],
    compute: Callable[..., float],
    *,
    by_disks: bool = False,
    caution: str = "",
) -> Row:
    """Compute a row from one moment of each view."""
    groups = [_Group((pick,)) for pick in picks]
    return _of_groups(heart, name, groups, compute, by_disks=by_disks, caution=caution)


def _of_groups(
    heart: Heart,
    name: str,
    groups: Sequence[_Group],
    compute: Callable[..., float],
    *,
    by_disks: bool = False,
    caution: str = "",
) -> Row:
    """Compute a row for each beat, or each combination of the beats of several views.

    Args:
        heart: The findings that the picks are from.
        name: Name of the row.
        groups: The picks of each view.
        compute: Takes the measurements of a combination, view by view.
        by_disks: True if an axis across the chamber makes the value wrong.
        caution: A doubt about the row as a whole.
    """
    picks = [pick for group in groups for pick in group.picks]
    frames = _frames(groups)
    if missing := [pick for pick in picks if not pick.findings]:
        return Row(name, math.nan, joined(pick.reason for pick in missing), frames=frames)
    values, reasons, doubts = [], [], []
    for beats in product(*(group.beats for group in groups)):
        findings = [finding for beat in beats for finding in beat]
        axes = [one.axis_doubt for one in findings] if by_disks else []
        faults = [] if heart.as_published else [*map(area_fault, findings), *axes]
        if any(faults):
            reasons += faults
            continue
        value = compute(*(finding.measurement for finding in findings))
        if not math.isfinite(value):
            reasons += [one.measurement.reason for one in findings] or [
                "these masks are no chamber"
            ]
            continue
        doubts += axes
        values.append(value)
    if not values:
        reason = joined(reasons) or joined(pick.reason for pick in picks)
        return Row(name, math.nan, reason or "these masks are no chamber", frames=frames)
    return _median(heart, Row(
        name,
        float(np.median(values)),
        caution=joined([*(pick.caution for pick in picks), *doubts, caution]),
        frames=frames,
        beats=len(values),
        low=min(values) if len(values) > 1 else math.nan,
        high=max(values) if len(values) > 1 else math.nan,
    ))  # fmt: skip


def _median(heart: Heart, row: Row) -> Row:
    """Withhold a share that no heart has; as published it stands, with a caution."""
    fault = share_fault(row.name, row.value)
    if not fault:
        return row
    if heart.as_published:
        return Row(
            row.name, row.value, caution=joined([row.caution, fault]), frames=row.frames, beats=1
        )
    return Row(row.name, math.nan, joined([fault, row.caution]), frames=row.frames)


def _frames(groups: Sequence[_Group]) -> tuple[str, ...]:
    """List the frames of a row, moment by moment and view by view."""
    moments = max(len(group.picks) for group in groups)
    return tuple(
        dict.fromkeys(
            str(finding.place)
            for moment in range(moments)
            for group in groups
            for pick in group.picks[moment : moment + 1]
            for finding in pick.findings
        )
    )


def _per_area(row: Row, bsa_m2: float) -> Row:
    parts = (indexed(one, bsa_m2) for one in (row.value, row.low, row.high))
    value, low, high = parts
    return Row(INDEXED[row.name], value, row.reason, row.caution, row.frames, row.beats, low, high)


def _area(chamber: Measurement) -> float:
    return chamber.area_cm2


def _length(chamber: Measurement) -> float:
    return chamber.length_cm
