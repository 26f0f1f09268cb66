"""The findings of one patient by view, chamber and clip, and the frames of them that count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from fastseg.echo.beats import (
    LEAST_SCORE,
    AreaCurve,
    beat_length,
    extremes_of_beats,
    find_beats,
    usable,
    with_own_extremes,
)
from fastseg.echo.cardiac_cycle import extremes, sinusoid_r2
from fastseg.echo.findings import Finding, chambers_of
from fastseg.echo.report.rows import joined
from fastseg.errors import MeasurementError

if TYPE_CHECKING:
    from fastseg.imaging.image import Timing

Phase: TypeAlias = Literal["largest", "smallest", "first"]
"""The frame of a beat that counts for a chamber."""

_FEW = 0.9  # share of the frames of a beat below which a caution says how many took part
_WHOLE = 0.9  # share of a beat that a clip without beats must show


@dataclass(frozen=True, slots=True)
class Pick:
    """The findings that count for a row, one a beat, or the reason why there is none."""

    findings: tuple[Finding, ...]
    reason: str = ""
    caution: str = ""


class Heart:
    """The findings by view, chamber and clip, and the choice among them."""

    def __init__(
        self,
        findings: Sequence[Finding],
        timing: Mapping[str, Timing],
        frames_per_beat: float | None,
    ) -> None:
        self._timing, self._frames_per_beat = timing, frames_per_beat
        self._clips: dict[tuple[str, str], dict[str, list[Finding]]] = {}
        self._curves: dict[tuple[str, str], tuple[AreaCurve, list[Finding]] | str] = {}
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

    def curves(self) -> Iterator[AreaCurve]:
        """Yield the curve of each chamber that has one."""
        for view, chamber in self._clips:
            found = self._curve(view, chamber)
            if not isinstance(found, str):
                yield found[0]

    def pick(self, view: str, chamber: str, phase: Phase, *, alone: bool = True) -> Pick:
        """Choose the frames of a chamber, one a beat.

        Args:
            view: Name of the view.
            chamber: Name of the chamber.
            phase: The frame of each beat of the best clip.
            alone: True if a clip of a single frame will do, with a caution.
        """
        clips = list(self._clips.get((view, chamber), {}).values())
        if not clips:
            return Pick((), f"there is no {view} frame")
        if not any(math.isfinite(one.measurement.area_cm2) for clip in clips for one in clip):
            return Pick((), f"no {chamber} was found in {view}")
        if self.as_published:
            return self._pick_as_published(view, chamber, phase, alone=alone)
        found = self._curve(view, chamber)
        if isinstance(found, str):
            return Pick((), found)
        curve, clip = found
        cautions = []
        if sum(curve.used) == 1:
            if not alone:
                return Pick((), f"{view} shows {chamber} in one frame, and a beat takes two")
            cautions = [f"from the only frame of {view} that shows {chamber}"]
        places = [one.smallest if phase == "smallest" else one.largest for one in curve.beats]
        cautions += self._about_beats(curve)
        if any(map(curve.has_gap_beside, places)):
            cautions.append(
                f"frames beside the {phase} {chamber} of {view} take no part: it may be missed"
            )
        chosen = tuple(clip[place] for place in places)
        return Pick(chosen, _reason(chosen), joined([*cautions, *_about_masks(chosen)]))

    def beside(self, pick: Pick, chamber: str) -> Pick:
        """Take another chamber in the frames of ``pick``."""
        found = []
        for one in pick.findings:
            place = one.place
            same = [
                other
                for other in self._clips.get((place.view, chamber), {}).get(place.clip, [])
                if other.place == place
            ]
            if not same:
                return Pick((), f"no {chamber} was measured in {place}")
            if not self.as_published and same[0].score < LEAST_SCORE:
                return Pick((), _unsure(chamber, place, same[0].score))
            found += same[:1]
        chosen = tuple(found)
        return Pick(chosen, pick.reason if not chosen else _reason(chosen))

    def _curve(self, view: str, chamber: str) -> tuple[AreaCurve, list[Finding]] | str:
        """Return the curve of the clip that counts and its findings, or why there is none."""
        key = (view, chamber)
        if key not in self._curves:
            self._curves[key] = self._best_curve(view, chamber)
        return self._curves[key]

    def _best_curve(self, view: str, chamber: str) -> tuple[AreaCurve, list[Finding]] | str:
        clips = self._clips[view, chamber]
        curves = [(self._of_clip(view, chamber, clip), clip) for clip in clips.values()]
        whole = [(curve, clip) for curve, clip in curves if curve.beats]
        if not whole:
            curve, clip = max(curves, key=lambda pair: sum(pair[0].used))
            return _too_few(curve, clip)
        if len(whole) == 1:
            return whole[0]
        fits = [
            sinusoid_r2(
                curve.areas_cm2,
                frames_per_beat=beat_length(self._timing_of(curve.clip), self._frames_per_beat),
            )
            for curve, _ in whole
        ]
        return whole[fits.index(max(fits))]

    def _of_clip(self, view: str, chamber: str, clip: Sequence[Finding]) -> AreaCurve:
        areas = [one.measurement.area_cm2 for one in clip]
        used = usable(areas, [one.score for one in clip])
        timing = self._timing_of(clip[0].place.clip)
        spans, found_by = find_beats(
            areas, used, timing=timing, frames_per_beat=self._frames_per_beat
        )
        beats = extremes_of_beats(areas, used, spans)
        if found_by == "heart rate":
            beats = with_own_extremes(beats, areas, used)
        if not beats and found_by != "whole clip":
            spans, found_by = ((0, len(areas)),), "whole clip"
            beats = extremes_of_beats(areas, used, spans)
        return AreaCurve(
            view,
            chamber,
            clip[0].place.clip,
            tuple(areas),
            tuple(used.tolist()),
            beats,
            found_by,
            timing.frame_ms if timing else None,
        )

    def _timing_of(self, clip: str) -> Timing | None:
        return self._timing.get(clip)

    def _about_beats(self, curve: AreaCurve) -> Iterator[str]:
        """Say that few frames took part, or that the clip shows less than a beat."""
        for beat in curve.beats:
            if beat.used < _FEW * beat.frames:
                part = f"{beat.used} of the {beat.frames} frames of a beat"
                yield f"{part} took part for {curve.chamber}"
        length = beat_length(self._timing_of(curve.clip), self._frames_per_beat)
        count = len(curve.areas_cm2)
        if curve.found_by == "whole clip" and length is not None and 1 < count < _WHOLE * length:
            yield f"the clip of {curve.view} shows {count} of the {length:.0f} frames of a beat"

    def _pick_as_published(self, view: str, chamber: str, phase: Phase, *, alone: bool) -> Pick:
        """Choose the one frame that the published method takes."""
        clips = list(self._clips[view, chamber].values())
        areas = [[finding.measurement.area_cm2 for finding in clip] for clip in clips]
        chosen = extremes(areas, frames_per_beat=self._frames_per_beat)
        if chosen is None:
            return Pick((), f"no {chamber} was found in {view}")
        clip, cautions = clips[chosen.clip], []
        if sum(map(math.isfinite, areas[chosen.clip])) == 1:
            if not alone:
                return Pick((), f"{view} shows {chamber} in one frame, and a beat takes two")
            cautions = [f"from the only frame of {view} that shows {chamber}"]
        place = {"largest": chosen.largest, "smallest": chosen.smallest, "first": 0}[phase]
        finding = clip[place]
        if finding.score < LEAST_SCORE:
            cautions.append(f"the network expects {chamber} at an IoU of {finding.score:.2f}")
        return Pick(
            (finding,), finding.measurement.reason, joined([*cautions, *_about_masks([finding])])
        )


def _about_masks(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        chamber = finding.measurement
        if chamber.pieces > 1:
            yield f"{chamber.name} is in {chamber.pieces} pieces in {finding.place}"


def _reason(findings: Sequence[Finding]) -> str:
    return joined(finding.measurement.reason for finding in findings)


def _too_few(curve: AreaCurve, clip: Sequence[Finding]) -> str:
    """Say why no beat of a clip has enough frames."""
    count, used = len(clip), sum(curve.used)
    if count == 1:
        return _unsure(curve.chamber, clip[0].place, clip[0].score)
    return (
        f"{used} of the {count} frames of {curve.view} show {curve.chamber} at an expected IoU of "
        f"{LEAST_SCORE:g} and in agreement with their neighbours, too few of a beat"
    )


def _unsure(chamber: str, place: object, score: float) -> str:
    return f"the network expects {chamber} in {place} at an IoU of {score:.2f}"
