"""One patient's echocardiogram: from chambers measured in frames to the numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fastseg.echo.cardiac_cycle import extremes
from fastseg.echo.findings import Finding, chambers_of
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
from fastseg.measure import Measurement

FORESHORTENED = 0.1
"""Share by which the axes of two views may differ before a caution is given (Lang et al. 2015)."""

LARGEST_SHARE_PERCENT = 90.0
"""Largest share of its area or volume that a chamber loses in a beat; a higher share comes from a
mask that failed in one frame."""

DOUBTFUL_SCORE = 0.5
"""Below this the network itself expects less than half of a mask to be right."""

INDEXED = {
    "lv_edv_biplane_ml": "lv_edv_index_ml_per_m2",
    "lv_esv_biplane_ml": "lv_esv_index_ml_per_m2",
    "la_volume_biplane_ml": "la_volume_index_ml_per_m2",
    "ra_volume_ml": "ra_volume_index_ml_per_m2",
    "lv_mass_g": "lv_mass_index_g_per_m2",
}
"""Rows that are also given for each square metre of body surface. Areas of the RV are not."""

SEPARATOR = "; "
"""Between the parts of a reason or a caution."""

Phase: TypeAlias = Literal["largest", "smallest", "first"]
"""The frame of a clip that counts for a chamber."""

_APICAL = ("a2c", "a4c")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report."""

    name: str
    """Name, ending in its unit: ``"lv_edv_biplane_ml"``."""

    value: float
    """The number; NaN where it is missing."""

    reason: str = ""
    """The reason why ``value`` is NaN, in words."""

    caution: str = ""
    """A reason to doubt the value, in words."""

    frames: tuple[str, ...] = ()
    """The frames that it was made from."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields without the name, ready for JSON."""
        told = {"reason": self.reason, "caution": self.caution, "frames": list(self.frames)}
        return {"value": self.value, **told}


@dataclass(frozen=True, slots=True)
class Study:
    """The report of one patient. Research use only; not a medical device."""

    patient: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...] = field(repr=False)

    def __getitem__(self, name: str) -> Row:
        """Return the row of that name.

        Raises:
            MeasurementError: There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in self.rows)
        raise MeasurementError(f"there is no row {name!r}. There are: {names}.")

    def as_dict(self) -> dict[str, Any]:
        """Return rows by name and every finding, ready for JSON."""
        return {
            "patient": self.patient,
            "rows": {row.name: row.as_dict() for row in self.rows},
            "findings": [finding.as_dict() for finding in self.findings],
        }


def study(
    findings: Iterable[Finding],
    *,
    patient: str = "",
    bsa_m2: float | None = None,
    frames_per_beat: float | None = None,
) -> Study:
    """Combine the findings of one patient to a report.

    In each view and for each chamber the clip with the best sinusoid is chosen, and in it the
    frame of largest area (end-diastole of a ventricle, maximum of an atrium) and the one of
    smallest area (end-systole). ``docs/echo.md`` has every rule and formula.

    Args:
        findings: Every chamber of every frame, in any order.
        patient: Whose they are, for the report.
        bsa_m2: Body surface area in square metres; indexed rows are there only if it is given.
        frames_per_beat: As in ``sinusoid_r2``.

    Returns:
        Always the same rows in the same order. A missing value is NaN with its reason.

    Raises:
        BackendUnavailableError: There are several clips of a view, and SciPy is not installed.
        MeasurementError: A view is unknown, modes are mixed, or a setting makes no sense.
    """
    found = tuple(_each(findings))
    heart = _Heart(found, frames_per_beat)
    rows = [*_left_ventricle(heart), *_left_atrium(heart), *_right_heart(heart), *_mass(heart)]
    if bsa_m2 is not None:
        rows += [_per_area(row, bsa_m2) for row in rows if row.name in INDEXED]
    return Study(patient, tuple(rows), found)


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


@dataclass(frozen=True, slots=True)
class _Pick:
    """The finding that counts for a row, or the reason why there is none."""

    finding: Finding | None
    reason: str = ""
    caution: str = ""


class _Heart:
    """The findings by view, chamber and clip, and the choice among them."""

    def __init__(self, findings: Sequence[Finding], frames_per_beat: float | None) -> None:
        self._frames_per_beat = frames_per_beat
        self._clips: dict[tuple[str, str], dict[str, list[Finding]]] = {}
        modes = {finding.measurement.mode for finding in findings}
        if len(modes) > 1:
            raise MeasurementError(
                f"chambers were measured in the modes {' and '.join(sorted(modes))}. Measure all "
                "of a patient in one mode."
            )
        self.as_published = modes == {"source"}
        for finding in sorted(findings, key=lambda finding: finding.place.frame):
            place, chamber = finding.place, finding.measurement.name
            chambers_of(place.view)
            self._clips.setdefault((place.view, chamber), {}).setdefault(place.clip, []).append(
                finding
            )

    def pick(self, view: str, chamber: str, phase: Phase, *, alone: bool = True) -> _Pick:
        """Choose the frame of a chamber.

        Args:
            view: Name of the view.
            chamber: Name of the chamber.
            phase: The frame of the best clip.
            alone: True if a clip of a single frame will do, with a caution.
        """
        clips = list(self._clips.get((view, chamber), {}).values())
        if not clips:
            return _Pick(None, f"there is no {view} frame")
        areas = [[finding.measurement.area_cm2 for finding in clip] for clip in clips]
        chosen = extremes(areas, frames_per_beat=self._frames_per_beat)
        if chosen is None:
            return _Pick(None, f"no {chamber} was found in {view}")
        clip, cautions = clips[chosen.clip], []
        if sum(map(math.isfinite, areas[chosen.clip])) == 1:
            if not alone:
                return _Pick(None, f"{view} shows {chamber} in one frame, and a beat takes two")
            cautions = [f"from the only frame of {view} that shows {chamber}"]
        place = {"largest": chosen.largest, "smallest": chosen.smallest, "first": 0}[phase]
        finding = clip[place]
        if finding.measurement.pieces > 1:
            pieces = finding.measurement.pieces
            cautions.append(f"{chamber} is in {pieces} pieces in {finding.place}")
        if finding.score < DOUBTFUL_SCORE:
            cautions.append(f"the network expects {chamber} at an IoU of {finding.score:.2f}")
        return _Pick(finding, finding.measurement.reason, SEPARATOR.join(cautions))

    def beside(self, pick: _Pick, chamber: str) -> _Pick:
        """Take another chamber in the frame of ``pick``."""
        if pick.finding is None:
            return pick
        place = pick.finding.place
        for finding in self._clips.get((place.view, chamber), {}).get(place.clip, []):
            if finding.place == place:
                return _Pick(finding, finding.measurement.reason)
        return _Pick(None, f"no {chamber} was measured in {place}")


def _left_ventricle(heart: _Heart) -> Iterator[Row]:
    volumes: dict[str, dict[str, Row]] = {}
    for moment, phase in _phases("ed", "es"):
        picks = [heart.pick(view, "LV", phase, alone=False) for view in _APICAL]
        for view, pick in zip(_APICAL, picks, strict=True):
            yield _row(f"lv_{moment}_area_{view}_cm2", [pick], _area)
            yield _row(f"lv_{moment}_length_{view}_cm", [pick], _length)
        volumes[moment] = _volumes(f"lv_{moment}v", picks)
        yield from volumes[moment].values()
    for method, name in (("biplane", "lv_ef"), ("a2c", "lv_ef_a2c"), ("a4c", "lv_ef_a4c")):
        largest, smallest = volumes["ed"][method], volumes["es"][method]
        yield _share(f"{name}_percent", largest, smallest, ejection_fraction_percent)


def _left_atrium(heart: _Heart) -> Iterator[Row]:
    largest = [heart.pick(view, "LA", "largest") for view in _APICAL]
    for view, pick in zip(_APICAL, largest, strict=True):
        yield _row(f"la_area_{view}_cm2", [pick], _area)
        yield _row(f"la_length_{view}_cm", [pick], _length)
    volumes = _volumes("la_volume", largest)
    yield from volumes.values()
    smallest = [_smallest_atrium(heart, view) for view in _APICAL]
    least = _row("la_volume_min_biplane_ml", smallest, biplane_volume_ml)
    yield least
    yield _share("la_ef_percent", volumes["biplane"], least, ejection_fraction_percent)


def _smallest_atrium(heart: _Heart, view: str) -> _Pick:
    if heart.as_published:
        return _Pick(None, "the published method takes atria at their largest only")
    return heart.pick(view, "LA", "smallest", alone=False)


def _right_heart(heart: _Heart) -> Iterator[Row]:
    atrium = heart.pick("a4c", "RA", "largest")
    yield _row("ra_area_cm2", [atrium], _area)
    yield _row("ra_length_cm", [atrium], _length)
    yield _row("ra_volume_ml", [atrium], single_plane_volume_ml)
    largest, smallest = (
        _row(f"rv_{moment}a_cm2", [heart.pick("a4c", "RV", phase, alone=False)], _area)
        for moment, phase in _phases("ed", "es")
    )
    yield from (largest, smallest)
    yield _share("rv_fac_percent", largest, smallest, fractional_area_change_percent)


def _mass(heart: _Heart) -> Iterator[Row]:
    outer = heart.pick("sax", "disc", "largest")
    inner = heart.beside(outer, "cavity")
    yield _row("sax_outer_area_cm2", [outer], _area)
    yield _row("sax_inner_area_cm2", [inner], _area)
    # As published, the two-chamber view gives whatever frame its clip begins with.
    two = heart.pick("a2c", "LV", "first" if heart.as_published else "largest")
    four = heart.pick("a4c", "LV", "largest")

    def mass(disc: Measurement, cavity: Measurement, *apical: Measurement) -> float:
        return mass_g(
            outer_area_cm2=disc.area_cm2,
            inner_area_cm2=cavity.area_cm2,
            length_cm=longer_axis_cm(*apical),
        )

    yield _row("lv_mass_g", [outer, inner, two, four], mass)


def _phases(largest: str, smallest: str) -> tuple[tuple[str, Phase], tuple[str, Phase]]:
    return (largest, "largest"), (smallest, "smallest")


def _volumes(name: str, picks: Sequence[_Pick]) -> dict[str, Row]:
    """Compute the volumes of a chamber by every method, from the same frames."""
    rows = {
        view: _row(f"{name}_{view}_ml", [pick], single_plane_volume_ml)
        for view, pick in zip(_APICAL, picks, strict=True)
    }
    doubt = _foreshortening(picks)
    rows["biplane"] = _row(f"{name}_biplane_ml", picks, biplane_volume_ml, caution=doubt)
    rows["area_length"] = _row(f"{name}_area_length_ml", picks, area_length_volume_ml)
    return rows


def _foreshortening(picks: Sequence[_Pick]) -> str:
    lengths = [pick.finding.measurement.length_cm for pick in picks if pick.finding]
    if len(lengths) < 2 or not min(lengths) < (1 - FORESHORTENED) * max(lengths):
        return ""
    axes = " and ".join(f"{length:.1f}" for length in lengths)
    return f"the axes of the two views, {axes} cm, differ: one of them may be foreshortened"


def _row(
    name: str, picks: Sequence[_Pick], compute: Callable[..., float], *, caution: str = ""
) -> Row:
    """Compute a row from the chambers picked, or name the one that is missing."""
    findings = [pick.finding for pick in picks if pick.finding is not None]
    frames = tuple(dict.fromkeys(str(finding.place) for finding in findings))
    if len(findings) < len(picks):
        missing = _joined(pick.reason for pick in picks if pick.finding is None)
        return Row(name, math.nan, missing, frames=frames)
    value = compute(*(finding.measurement for finding in findings))
    if not math.isfinite(value):
        reason = _joined(pick.reason for pick in picks)
        return Row(name, math.nan, reason or "these masks are no chamber", frames=frames)
    cautions = _joined([*(pick.caution for pick in picks), caution])
    return Row(name, value, caution=cautions, frames=frames)


def _share(name: str, largest: Row, smallest: Row, compute: Callable[..., float]) -> Row:
    """Compute a row from two others."""
    frames = tuple(dict.fromkeys((*largest.frames, *smallest.frames)))
    value = compute(largest.value, smallest.value)
    if not math.isfinite(value):
        reason = _joined([largest.reason, smallest.reason])
        return Row(name, math.nan, reason or "the chamber has no volume", frames=frames)
    cautions = [largest.caution, smallest.caution]
    if not 0 <= value <= LARGEST_SHARE_PERCENT:
        cautions.append("not what a heart does: look at the masks in these frames")
    return Row(name, value, caution=_joined(cautions), frames=frames)


def _per_area(row: Row, bsa_m2: float) -> Row:
    value = indexed(row.value, bsa_m2)
    return Row(INDEXED[row.name], value, row.reason, row.caution, row.frames)


def _joined(remarks: Iterable[str]) -> str:
    """Join remarks, each named once, also where they are joined already."""
    parts = (part for remark in remarks for part in remark.split(SEPARATOR))
    return SEPARATOR.join(dict.fromkeys(part for part in parts if part))


def _area(chamber: Measurement) -> float:
    return chamber.area_cm2


def _length(chamber: Measurement) -> float:
    return chamber.length_cm
