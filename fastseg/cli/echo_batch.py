"""The files of one call of ``fastseg echo``: measured one by one, and joined to studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.cli import echo_files
from fastseg.cli.arguments import ImageArguments, ModelArguments, OutArguments
from fastseg.cli.echo_files import EchoFile, Frames, StudyKey
from fastseg.cli.echo_output import EchoOutput
from fastseg.cli.report import DONE, SOME_FAILED, error_body, failure_line
from fastseg.echo.findings import Finding, Place, find
from fastseg.echo.frames import FrameChannels
from fastseg.echo.report import FOUND_BY_NETWORKS, Study, study, view_doubt
from fastseg.echo.unet import Unet
from fastseg.echo.views import VIEWS
from fastseg.errors import FastsegError, ImageError, OutputError
from fastseg.imaging import Timing
from fastseg.masks import Masks
from fastseg.measure import FIELD_OF_VIEW_CM, Mode
from fastseg.timings import Timings

VIEW_FRAMES = 5
"""Frames of a clip, evenly apart, that are compared with other views."""


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ImageArguments, OutArguments):
    """Options of ``fastseg echo``."""

    frames: tuple[Path, ...]
    view: str | None
    patient: str | None
    channels: FrameChannels | None
    cm_per_pixel: float | None
    mode: Mode
    whole_frame: bool
    bsa: float | None
    frames_per_beat: float | None
    sr: bool

    def settings(self) -> dict[str, Any]:
        """Return the options that the measurements depend on, ready for JSON."""
        return {
            "mode": self.mode,
            "channels": self.channels,
            "cm_per_pixel": self.cm_per_pixel,
            "whole_frame": self.whole_frame,
            "bsa_m2": self.bsa,
            "frames_per_beat": self.frames_per_beat,
        }

    def read(self, path: Path) -> Frames:
        """Read the frames of a file as the options say.

        Raises:
            BackendUnavailableError: The file is DICOM, and pydicom is not installed.
            ImageError: The file cannot be read, or has no frames.
        """
        return echo_files.read(
            path,
            channels=self.channels,
            max_pixels=self.limit,
            cm_per_pixel=self.cm_per_pixel,
            whole_frame=self.whole_frame,
        )


@dataclass(slots=True)
class EchoBatch:
    """Files, findings and failures of one call."""

    arguments: Arguments
    models: Mapping[str, Unet]  # by view
    output: EchoOutput | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    findings: dict[StudyKey, list[Finding]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)  # frames so far, by clip
    timing: dict[str, Timing] = field(default_factory=dict)  # by clip
    sources: dict[StudyKey, list[Path]] = field(default_factory=dict)
    patients: dict[StudyKey, list[str]] = field(default_factory=dict)
    """Patients by the names of the files, of studies that headers name."""
    doubts: dict[StudyKey, list[str]] = field(default_factory=dict)
    other_views: Callable[[str], Unet] | None = None
    """Loads the network of another view to compare with; None where none is comparable."""

    @property
    def exit_code(self) -> int:
        """Exit code: 1 once a file has failed."""
        return SOME_FAILED if self.failures else DONE

    def describe(self, view: str) -> str:
        """Name the network of a view, what it ran on, and the mode."""
        return f"{ran_on(self.models[view])} · mode {self.arguments.mode}"

    def measure(self, file: EchoFile) -> None:
        """Segment and measure one file; one that fails is reported and does not stop the others."""
        row: dict[str, Any] = {
            "file": str(file.path),
            "view": file.view,
            "view_found_by": file.view_found_by,
            "patient": file.patient,
        }
        self.rows.append(row)
        try:
            frames = self.arguments.read(file.path)
            scale = frames.cm_per_pixel
            if frames.cautions:
                row["cautions"] = list(frames.cautions)
            model = self.models[file.view]
            stream = model.stream(frames.arrays, channels=frames.channels, cm_per_pixel=scale)
            clip = list(stream)
            scales = _scales(clip, scale, str(file.path))
            findings = self._find(file, clip, scales)
            doubt = self._doubt(file, frames, clip)
            if self.output is not None:
                self.output.add_clip(file, frames, clip, findings)
        except OutputError:
            raise
        except FastsegError as error:
            row |= error_body(error)
            self.failures.append(failure_line(str(file.path), error))
            return
        row |= {"frames": len(clip), **_geometry(clip, scales)}
        row["timings"] = sum((masks.timings for masks in clip), Timings()).as_dict()
        self.findings.setdefault(file.study, []).extend(chain.from_iterable(findings))
        self.timing[file.clip(len(clip))] = frames.timing
        self.sources.setdefault(file.study, []).append(file.path)
        if file.group:
            self.patients.setdefault(file.study, []).append(file.patient)
        if doubt:
            row["cautions"] = [*row.get("cautions", []), doubt]
            self.doubts.setdefault(file.study, []).append(f"{file.path}: {doubt}")

    def _find(
        self, file: EchoFile, clip: list[Masks], scales: Sequence[float]
    ) -> list[list[Finding]]:
        """Measure the chambers of each frame; frame numbers continue those of the clip so far."""
        name, start = file.clip(len(clip)), self.lengths.get(file.clip(len(clip)), 0)
        findings = []
        for index, (masks, scale) in enumerate(zip(clip, scales, strict=True)):
            called = str(file.path) if len(clip) == 1 else f"{file.path} frame {index}"
            place = Place(file.view, start + index, name, called)
            findings.append(
                find(
                    masks,
                    place,
                    cm_per_pixel=scale,
                    mode=self.arguments.mode,
                    threads=self.arguments.threads,
                )
            )
        self.lengths[name] = start + len(clip)
        return findings

    def _doubt(self, file: EchoFile, frames: Frames, clip: Sequence[Masks]) -> str:
        """Say what makes the view doubtful, by some of the frames; empty if nothing does."""
        if file.view_found_by == "networks":
            return FOUND_BY_NETWORKS
        if self.other_views is None:
            return ""
        some = np.unique(np.linspace(0, len(clip) - 1, VIEW_FRAMES).round().astype(int)).tolist()
        seen = {file.view: [clip[index] for index in some]}
        for view in VIEWS:
            if view != file.view:
                masks = self.other_views(view).stream(
                    [frames.arrays[index] for index in some],
                    channels=frames.channels,
                    cm_per_pixel=frames.cm_per_pixel,
                )
                seen[view] = list(masks)
        return view_doubt(file.view, seen)

    def studies(self) -> dict[StudyKey, Study]:
        """Return the study of each patient, in the order of their first files."""
        titles = echo_files.study_titles(self.findings, self.patients)
        return {
            key: study(
                findings,
                patient=titles[key],
                bsa_m2=self.arguments.bsa,
                frames_per_beat=self.arguments.frames_per_beat,
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


def _geometry(clip: Sequence[Masks], scales: Sequence[float]) -> dict[str, Any]:
    """Return size and scale of the frames, ready for JSON; None where the frames differ in it."""
    heights, widths = zip(*(masks.size for masks in clip), strict=True)
    found = {"width": widths, "height": heights, "cm_per_pixel": scales}
    return {name: each[0] if len(set(each)) == 1 else None for name, each in found.items()}


def ran_on(model: Unet) -> str:
    """Name a network and the backend, device and precision that it ran on."""
    return f"{model.manifest.name} on {model.backend} {model.device} {model.precision}"
