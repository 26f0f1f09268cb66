"""The files of one call of ``fastseg echo``: measured one by one, and joined to studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastseg.cli.arguments import ImageArguments, ModelArguments, OutArguments
from fastseg.cli.echo_output import EchoOutput
from fastseg.cli.report import DONE, SOME_FAILED, error_body, failure_line
from fastseg.echo.clips import ClipsByStudy, EchoSettings, measure_clip
from fastseg.echo.files import EchoFile
from fastseg.echo.frames import FrameChannels
from fastseg.echo.unet import Unet
from fastseg.errors import FastsegError, OutputError
from fastseg.measure import Mode
from fastseg.timings import Timings


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

    def settings(self) -> EchoSettings:
        """Return the options that the measurements depend on."""
        return EchoSettings(
            mode=self.mode,
            channels=self.channels,
            cm_per_pixel=self.cm_per_pixel,
            whole_frame=self.whole_frame,
            bsa_m2=self.bsa,
            frames_per_beat=self.frames_per_beat,
            threads=self.threads,
            max_pixels=self.limit,
        )


@dataclass(slots=True)
class EchoBatch:
    """Files, findings and failures of one call."""

    settings: EchoSettings
    models: Mapping[str, Unet]  # by view
    output: EchoOutput | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    clips: ClipsByStudy = field(default_factory=ClipsByStudy)
    other_views: Callable[[str], Unet] | None = None
    """Loads the network of another view to compare with; None where none is comparable."""

    @property
    def exit_code(self) -> int:
        """Exit code: 1 once a file has failed."""
        return SOME_FAILED if self.failures else DONE

    def describe(self, view: str) -> str:
        """Name the network of a view, what it ran on, and the mode."""
        return f"{ran_on(self.models[view])} · mode {self.settings.mode}"

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
            frames = self.settings.read(file.path)
            if frames.cautions:
                row["cautions"] = list(frames.cautions)
            model = self.models[file.view]
            clip = measure_clip(file, frames, model, self.settings, self.other_views)
            if self.output is not None:
                self.output.add_clip(file, frames, clip.masks, clip.findings)
        except OutputError:
            raise
        except FastsegError as error:
            row |= error_body(error)
            self.failures.append(failure_line(str(file.path), error))
            return
        row |= {"frames": len(clip.masks), **clip.geometry()}
        row["timings"] = sum((masks.timings for masks in clip.masks), Timings()).as_dict()
        self.clips.add(file, clip.findings, frames.timing, clip.doubt)
        if clip.doubt:
            row["cautions"] = [*row.get("cautions", []), clip.doubt]


def ran_on(model: Unet) -> str:
    """Name a network and the backend, device and precision that it ran on."""
    return f"{model.manifest.name} on {model.backend} {model.device} {model.precision}"
