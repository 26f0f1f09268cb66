"""Clips of ultrasound files: segmented and measured one by one, and joined to studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.echo import files as echo_files
from fastseg.echo.files import EchoFile, Frames, StudyKey
from fastseg.echo.findings import Finding, Place, find
from fastseg.echo.frames import FrameChannels
from fastseg.echo.report import FOUND_BY_NETWORKS, Study, study, view_doubt
from fastseg.echo.unet import Unet
from fastseg.echo.views import VIEWS
from fastseg.errors import ImageError
from fastseg.images import MAX_PIXELS
from fastseg.imaging import Timing
from fastseg.masks import Masks
from fastseg.measure import FIELD_OF_VIEW_CM, Mode

VIEW_FRAMES = 5
"""Frames of a clip, evenly apart, that are compared with other views."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoSettings:
    """Settings of reading and measuring that hold for all files."""

    mode: Mode = "default"
    channels: FrameChannels | None = None
    cm_per_pixel: float | None = None
    whole_frame: bool = False
    bsa_m2: float | None = None
    frames_per_beat: float | None = None
    threads: int = 0
    max_pixels: int | None = MAX_PIXELS

    def as_dict(self) -> dict[str, Any]:
        """Return what the measurements depend on, ready for JSON."""
        names = ("mode", "channels", "cm_per_pixel", "whole_frame", "bsa_m2", "frames_per_beat")
        return {name: getattr(self, name) for name in names}

    def read(self, path: Path) -> Frames:
        """Read the frames of a file.

        Raises:
            BackendUnavailableError: The file is DICOM, and pydicom is not installed.
            ImageError: The file cannot be read, or has no frames.
        """
        return echo_files.read(
            path,
            channels=self.channels,
            max_pixels=self.max_pixels,
            cm_per_pixel=self.cm_per_pixel,
            whole_frame=self.whole_frame,
        )


@dataclass(frozen=True, slots=True)
class MeasuredClip:
    """The masks and the findings of a file."""

    masks: list[Masks]
    """Of each frame."""

    scales: list[float]
    """Side of a pixel in cm, of each frame."""

    findings: list[list[Finding]]
    """Of each frame; their places count frames from the start of the file."""

    doubt: str
    """A sentence that makes the view doubtful; empty if nothing does."""

    def geometry(self) -> dict[str, Any]:
        """Return size and scale of the frames, ready for JSON; None where the frames differ."""
        heights, widths = zip(*(masks.size for masks in self.masks), strict=True)
        found = {"width": widths, "height": heights, "cm_per_pixel": self.scales}
        return {name: each[0] if len(set(each)) == 1 else None for name, each in found.items()}


def measure_clip(
    file: EchoFile,
    frames: Frames,
    model: Unet,
    settings: EchoSettings,
    other_views: Callable[[str], Unet] | None = None,
) -> MeasuredClip:
    """Segment the frames of a file, and measure the chambers.

    Args:
        file: The file with its view.
        frames: Its frames.
        model: The network of the view.
        settings: Mode and threads are used.
        other_views: Returns the network of another view to compare with; None where none is
            comparable.

    Raises:
        ImageError: A frame cannot be used, or the frames are of several sizes and have one scale.
        MeasurementError: The network is of another view.
    """
    scale = frames.cm_per_pixel
    stream = model.stream(frames.arrays, channels=frames.channels, cm_per_pixel=scale)
    masks = list(stream)
    scales = _scales(masks, scale, str(file.path))
    findings = [
        find(
            one,
            Place(file.view, index, file=_called(file, index, len(masks))),
            cm_per_pixel=side,
            mode=settings.mode,
            threads=settings.threads,
        )
        for index, (one, side) in enumerate(zip(masks, scales, strict=True))
    ]
    return MeasuredClip(masks, scales, findings, _doubt(file, frames, masks, other_views))


def _called(file: EchoFile, index: int, frames: int) -> str:
    return str(file.path) if frames == 1 else f"{file.path} frame {index}"


def _doubt(
    file: EchoFile,
    frames: Frames,
    clip: Sequence[Masks],
    other_views: Callable[[str], Unet] | None,
) -> str:
    """Say what makes the view doubtful, by some of the frames; empty if nothing does."""
    if file.view_found_by == "networks":
        return FOUND_BY_NETWORKS
    if other_views is None:
        return ""
    some = np.unique(np.linspace(0, len(clip) - 1, VIEW_FRAMES).round().astype(int)).tolist()
    seen = {file.view: [clip[index] for index in some]}
    for view in VIEWS:
        if view != file.view:
            masks = other_views(view).stream(
                [frames.arrays[index] for index in some],
                channels=frames.channels,
                cm_per_pixel=frames.cm_per_pixel,
            )
            seen[view] = list(masks)
    return view_doubt(file.view, seen)


@dataclass(slots=True)
class ClipsByStudy:
    """Findings of many files, gathered by study in the order of the files."""

    findings: dict[StudyKey, list[Finding]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)  # frames so far, by clip
    timing: dict[str, Timing] = field(default_factory=dict)  # by clip
    sources: dict[StudyKey, list[Path]] = field(default_factory=dict)
    patients: dict[StudyKey, list[str]] = field(default_factory=dict)
    """Patients by the names of the files, of studies that headers name."""

    doubts: dict[StudyKey, list[str]] = field(default_factory=dict)

    def add(
        self, file: EchoFile, findings: Sequence[Sequence[Finding]], timing: Timing, doubt: str
    ) -> None:
        """Add a file; the numbers of its frames continue those of its clip so far."""
        clip = file.clip(len(findings))
        start = self.lengths.get(clip, 0)
        self.lengths[clip] = start + len(findings)
        own = self.findings.setdefault(file.study, [])
        for one in chain.from_iterable(findings):
            place = replace(one.place, frame=start + one.place.frame, clip=clip)
            own.append(replace(one, place=place))
        self.timing[clip] = timing
        self.sources.setdefault(file.study, []).append(file.path)
        if file.group:
            self.patients.setdefault(file.study, []).append(file.patient)
        if doubt:
            self.doubts.setdefault(file.study, []).append(f"{file.path}: {doubt}")

    def studies(self, settings: EchoSettings) -> dict[StudyKey, Study]:
        """Return the study of each patient, in the order of their first files."""
        titles = echo_files.study_titles(self.findings, self.patients)
        return {
            key: study(
                findings,
                patient=titles[key],
                bsa_m2=settings.bsa_m2,
                frames_per_beat=settings.frames_per_beat,
                timing=self.timing,
                cautions=self.doubts.get(key, ()),
            )
            for key, findings in self.findings.items()
        }


def _scales(clip: Sequence[Masks], known: float | None, name: str) -> list[float]:
    """Return the side of a pixel in cm for each frame; a known one holds for frames of one size.

    Raises:
        ImageError: The frames are of several sizes, and a scale was given for all.
    """
    sizes = list(dict.fromkeys(masks.size for masks in clip))
    if known is None:
        return [FIELD_OF_VIEW_CM / max(masks.size) for masks in clip]
    if len(sizes) > 1:
        told = " and ".join(f"{width} x {height}" for height, width in sizes)
        raise ImageError(
            f"{name} has frames of {told} pixels, and one scale does not hold for all. Give the "
            "frames of each size in a file of their own."
        )
    return [known] * len(clip)
