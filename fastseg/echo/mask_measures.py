"""Measurements of masks that exist already: areas, axes, volumes, and those of the heart."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.echo.findings import Finding, Place, axis_doubt
from fastseg.echo.report import Study, study
from fastseg.echo.tracings import Tracing, read_tracings
from fastseg.echo.views import VIEWS
from fastseg.echo.volumes import ejection_fraction_percent
from fastseg.errors import FastsegError, MaskError, MeasurementError
from fastseg.images import MAX_PIXELS
from fastseg.inputs.numbers import real_number
from fastseg.measure import measure

_SQUARE = 0.01  # share by which the sides of a pixel may differ


@dataclass(frozen=True, slots=True)
class MaskMeasure:
    """One structure in one frame. A number that is not known is NaN."""

    file: str
    frame: int
    label: str
    area_px: float
    length_px: float
    area_cm2: float = math.nan
    length_cm: float = math.nan
    disk_volume_ml: float = math.nan
    """Method of disks from this view alone, every disk a circle; of chambers of the heart."""

    eccentricity: float = math.nan
    solidity: float = math.nan
    pieces: int = 1
    caution: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MaskVolume:
    """A structure through the slices of a volume, or a ventricle traced over a beat."""

    file: str
    label: str
    voxels: int = 0
    volume_ml: float = math.nan
    """Voxels times their size."""

    edv_ml: float = math.nan
    esv_ml: float = math.nan
    ef_percent: float = math.nan
    """From the largest and the smallest of the traced frames; it needs no scale."""

    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MaskReport:
    """The measurements of some files of masks. Research use only; not a medical device."""

    masks: tuple[MaskMeasure, ...]
    volumes: tuple[MaskVolume, ...]
    studies: tuple[Study, ...] = field(default=(), repr=False)
    """The report of each patient, of files whose view is known."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "masks": [one.as_dict() for one in self.masks],
            "volumes": [one.as_dict() for one in self.volumes],
            "studies": [one.as_dict() for one in self.studies],
        }


@dataclass(frozen=True, slots=True)
class MaskSource:
    """A file of masks, and what is known of it."""

    path: str | os.PathLike[str]
    view: str | None = None
    """View of the heart; the structures are then its chambers."""

    patient: str = ""


def measure_masks(
    sources: Sequence[MaskSource | str | os.PathLike[str]],
    *,
    cm_per_pixel: float | None = None,
    labels: Mapping[str, str] | None = None,
    need_cm: bool = False,
    bsa_m2: float | None = None,
    max_pixels: int | None = MAX_PIXELS,
    threads: int = 0,
) -> MaskReport:
    """Measure masks that exist already.

    Args:
        sources: Label maps (PNG, TIFF, NIfTI, NRRD), COCO JSON, DICOM SEG, or tracings of
            EchoNet-Dynamic (CSV). A ``MaskSource`` with a view gives the report of ``study`` too:
            the frames of a file, or the files of a patient's view, are one clip.
        cm_per_pixel: Side of a pixel in cm; None takes that of each file.
        labels: New names of structures, ``{"label 1": "LV"}``.
        need_cm: Refuse a file without a scale, instead of measuring it in pixels.
        bsa_m2: Body surface area in m2, for the report of ``study``.
        max_pixels: Largest height x width in pixels, None for no limit.
        threads: Processor threads; 0 means every core.

    Raises:
        BackendUnavailableError: A package that a file needs is not installed.
        ImageError: A file cannot be read.
        MaskError: A file holds no masks, or files of one clip differ in size.
        MeasurementError: A scale is missing where cm are needed, or a setting makes no sense.
    """
    scale = None
    if cm_per_pixel is not None:
        scale = real_number(cm_per_pixel, "cm_per_pixel", MeasurementError, positive=True)
    measurer = MaskMeasurer(scale, dict(labels or {}), need_cm, max_pixels, threads)
    for source in sources:
        measurer.add(source if isinstance(source, MaskSource) else MaskSource(source))
    return measurer.report(bsa_m2=bsa_m2)


@dataclass(slots=True)
class MaskMeasurer:
    """Files of masks measured one by one; the settings are those of ``measure_masks``."""

    scale: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    need_cm: bool = False
    max_pixels: int | None = MAX_PIXELS
    threads: int = 0
    masks: list[MaskMeasure] = field(default_factory=list)
    volumes: list[MaskVolume] = field(default_factory=list)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    clips: dict[tuple[str, str], tuple[int, tuple[int, int]]] = field(default_factory=dict)
    """Frames so far, and their size, by patient and view."""

    def add(self, source: MaskSource) -> None:
        """Measure one file; nothing of it is kept if it raises, as ``measure_masks`` does."""
        path = Path(source.path)
        before = (len(self.masks), len(self.volumes), dict(self.clips))
        found = {patient: len(findings) for patient, findings in self.findings.items()}
        try:
            self._add(path, source)
        except FastsegError:
            del self.masks[before[0] :], self.volumes[before[1] :]
            self.clips = before[2]
            self.findings = {
                patient: findings[: found[patient]]
                for patient, findings in self.findings.items()
                if patient in found
            }
            raise

    def report(self, *, bsa_m2: float | None = None) -> MaskReport:
        """Return what was measured, with the report of each patient."""
        studies = [
            study(findings, patient=patient, bsa_m2=bsa_m2)
            for patient, findings in self.findings.items()
        ]
        return MaskReport(tuple(self.masks), tuple(self.volumes), tuple(studies))

    def _add(self, path: Path, source: MaskSource) -> None:
        if path.suffix.lower() == ".csv":
            self._add_tracings(read_tracings(path), path)
            return
        from fastseg.imaging.mask_files import read_mask_file

        for frames in read_mask_file(path, max_pixels=self.max_pixels):
            names = tuple(self.labels.get(label, label) for label in frames.labels)
            if len(set(names)) < len(names):
                raise MaskError(f"{frames.name} would have two structures of one name: {names}.")
            self._add_frames(source, frames, names)

    def _add_frames(self, source: MaskSource, frames: Any, names: tuple[str, ...]) -> None:
        cm, square = self._side(frames)
        voxels = np.zeros(len(names), np.int64)
        for index in range(frames.count):
            pixels = frames.frame(index)
            voxels += pixels.sum(axis=(1, 2))
            shapes = measure(pixels, cm_per_pixel=cm or 1.0, names=names, threads=self.threads)
            beside = {shape.name: shape for shape in shapes}
            for shape in shapes:
                if math.isnan(shape.area_cm2):
                    continue
                side = shape.cm_per_pixel
                doubt = axis_doubt(shape, beside)
                finding = Finding(Place("a4c"), shape, math.nan, doubt)
                of_heart = shape.name in _CHAMBERS and cm is not None and square
                self.masks.append(
                    MaskMeasure(
                        frames.name,
                        index,
                        shape.name,
                        shape.area_cm2 / side**2,
                        shape.length_cm / side if square else math.nan,
                        math.nan if cm is None else shape.area_cm2,
                        shape.length_cm if cm is not None and square else math.nan,
                        finding.volume_ml if of_heart else math.nan,
                        shape.eccentricity,
                        shape.solidity,
                        shape.pieces,
                        doubt if square else "pixels are not square: the axis is not measured",
                    )
                )
            if source.view is not None:
                self._add_findings(source, frames, index, shapes)
        self._add_volumes(frames, names, voxels)

    def _side(self, frames: Any) -> tuple[float | None, bool]:
        """Return the side of a pixel in cm, and whether pixels are square."""
        if self.scale is not None:
            return self.scale, True
        if frames.spacing is None:
            if self.need_cm:
                raise MeasurementError(
                    f"{frames.name} does not say how large its pixels are. Give cm_per_pixel "
                    "(--cm-per-pixel), the side of a pixel in cm."
                )
            return None, True
        height, width = frames.spacing
        square = math.isclose(height, width, rel_tol=_SQUARE)
        return math.sqrt(height * width) / 10, square

    def _add_volumes(self, frames: Any, names: Sequence[str], voxels: Any) -> None:
        if frames.slice_spacing is None or frames.count < 2:
            return
        height, width = frames.spacing if self.scale is None else (10 * self.scale,) * 2
        one = height * width * frames.slice_spacing / 1000
        for name, count in zip(names, voxels.tolist(), strict=True):
            self.volumes.append(MaskVolume(frames.name, name, count, count * one))

    def _add_findings(
        self, source: MaskSource, frames: Any, index: int, shapes: Sequence[Any]
    ) -> None:
        """Add the chambers of a frame to the clip of its patient's view."""
        view = source.view or ""
        if view not in VIEWS:
            raise MeasurementError(f"the view is one of {', '.join(VIEWS)}, not {view!r}.")
        expected = VIEWS[view].chambers
        known = [shape for shape in shapes if shape.name in expected]
        if not known:
            raise MaskError(
                f"{frames.name} has the structures {', '.join(frames.labels)}, and the view {view} "
                f"shows {', '.join(expected)}. Name them by labels (--label 'label 1=LV')."
            )
        if self._side(frames)[0] is None:
            raise MeasurementError(
                f"{frames.name} does not say how large its pixels are, which the report of a heart "
                "needs. Give cm_per_pixel (--cm-per-pixel), the side of a pixel in cm."
            )
        key = (source.patient, view)
        count, size = self.clips.get(key, (0, frames.size))
        if size != frames.size:
            raise MaskError(
                f"{frames.name} is of {frames.size[1]} x {frames.size[0]} pixels, and the {view} "
                f"frames before it are of {size[1]} x {size[0]}: they are not one clip. Give files "
                "of one size for each patient's view."
            )
        self.clips[key] = (count + 1, size)
        called = frames.name if frames.count == 1 else f"{frames.name} frame {index}"
        place = Place(view, count, f"{source.patient} {view}", called)
        beside = {shape.name: shape for shape in shapes}
        found = self.findings.setdefault(source.patient, [])
        found += [Finding(place, shape, math.nan, axis_doubt(shape, beside)) for shape in known]

    def _add_tracings(self, tracings: Sequence[Tracing], path: Path) -> None:
        side = self.scale
        if side is None and self.need_cm:
            raise MeasurementError(
                f"{path} has tracings in pixels and no scale. Give cm_per_pixel (--cm-per-pixel), "
                "the side of a pixel in cm."
            )
        files: dict[str, list[Tracing]] = {}
        for one in tracings:
            files.setdefault(one.file, []).append(one)
            known = side is not None
            cm = side or math.nan
            self.masks.append(
                MaskMeasure(
                    one.file,
                    one.frame,
                    "LV",
                    one.area_px,
                    one.length_px,
                    one.area_px * cm**2 if known else math.nan,
                    one.length_px * cm if known else math.nan,
                    one.volume_px3 * cm**3 if known else math.nan,
                )
            )
        self.volumes += _beats(files, side)


_CHAMBERS = frozenset(("LV", "LA", "RV", "RA"))


def _beats(files: Mapping[str, Sequence[Tracing]], side: float | None) -> Iterator[MaskVolume]:
    for file, tracings in files.items():
        if len(tracings) < 2:
            yield MaskVolume(file, "LV", reason="one frame is traced, and a beat takes two")
            continue
        volumes = [one.volume_px3 for one in tracings]
        share = ejection_fraction_percent(max(volumes), min(volumes))
        cm3 = math.nan if side is None else side**3
        yield MaskVolume(
            file, "LV", edv_ml=max(volumes) * cm3, esv_ml=min(volumes) * cm3, ef_percent=share
        )
