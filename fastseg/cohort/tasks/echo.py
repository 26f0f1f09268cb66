"""The task of ultrasound: chambers of each file, and the measurements of each study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from fastseg import results
from fastseg.cohort.manifest import Item
from fastseg.cohort.storage import Store, local_file
from fastseg.cohort.tasks.base import RESULT, Finished, Product, Task
from fastseg.echo.clips import ClipsByStudy, EchoSettings, MeasuredClip, measure_clip
from fastseg.echo.files import EchoFile, Frames, Headers, recognise
from fastseg.echo.findings import Finding, Place
from fastseg.echo.output.table import as_csv
from fastseg.echo.report import find_view
from fastseg.echo.unet import Unet
from fastseg.errors import MeasurementError, PromptError
from fastseg.imaging import Timing
from fastseg.inference.loaded_model import LoadedModel
from fastseg.measure import Measurement

TABLE_FILE = "measurements.csv"
STUDIES_FILE = "measurements.json"


@dataclass(frozen=True, kw_only=True)
class EchoTask(Task):
    """Masks and measurements of ultrasound files."""

    name: ClassVar[str] = "echo"
    networks: Mapping[str, Unet]
    """By view."""

    measuring: EchoSettings
    are_compared: bool
    """True if there is a network for each view, which are compared with each other."""

    def models(self) -> Mapping[str, LoadedModel]:
        """Return the networks by view."""
        return self.networks

    def _make(self, item: Item, path: Path) -> Product:
        if item.boxes is not None or item.points is not None:
            raise PromptError(f"{item.image} has prompts, and networks for frames take none.")
        frames = replace(self.measuring.read(path), path=item.path)
        file = self._recognised(item, path, frames)
        if file.view not in self.networks:
            raise MeasurementError(
                f"{item.image} is of the view {file.view}, and the network of "
                f"{', '.join(self.networks)}. Leave the model out, or give one for {file.view}."
            )
        other_views = self.networks.__getitem__ if self.are_compared else None
        network = self.networks[file.view]
        measuring = replace(self.measuring, threads=network.threads)
        clip = measure_clip(file, frames, network, measuring, other_views)
        document = self._document(item, file, frames, clip)
        content = (results.to_json(document) + "\n").encode()
        return Product({RESULT: content}, sum(map(len, clip.masks)))

    def _recognised(self, item: Item, path: Path, frames: Frames) -> EchoFile:
        def view_in(_: Path) -> str:
            return find_view(
                frames.arrays,
                self.networks.__getitem__,
                channels=frames.channels,
                cm_per_pixel=frames.cm_per_pixel,
                max_pixels=self.max_pixels,
            )

        header, group = Headers().read(path)
        return recognise(
            item.path,
            view=self.settings["view"],
            patient=item.patient,
            default_view=None if self.are_compared else next(iter(self.networks)),
            header=header,
            group=group,
            find_view=view_in if self.are_compared else None,
        )

    def _document(
        self, item: Item, file: EchoFile, frames: Frames, clip: MeasuredClip
    ) -> dict[str, Any]:
        timing = frames.timing
        return {
            "image": item.image,
            "patient": item.patient,
            "view": file.view,
            "view_found_by": file.view_found_by,
            **clip.geometry(),
            "timing": {
                "frame_ms": timing.frame_ms,
                "heart_rate": timing.heart_rate,
                "r_wave_ms": list(timing.r_wave_ms),
            },
            "cautions": list(frames.cautions),
            "doubt": clip.doubt,
            "frames": [
                {
                    "frame": index,
                    "annotations": list(results.describe(masks)),
                    "chambers": [_record(one) for one in found],
                }
                for index, (masks, found) in enumerate(zip(clip.masks, clip.findings, strict=True))
            ],
        }

    def join(self, finished: Iterable[Finished], store: Store) -> None:
        """Write the measurements of each study, as ``fastseg echo`` does for the same files."""
        headers, clips = Headers(), ClipsByStudy()
        for one in finished:
            # Headers number the studies, so those of files that failed are read too.
            with local_file(one.item) as path:
                _, group = headers.read(path)
            if one.document is None:
                continue
            source = one.document["view_found_by"]
            view, patient = one.document["view"], one.item.patient
            file = recognise(one.item.path, view=view, patient=patient, group=group)
            file = replace(file, view_found_by=source)
            findings = _findings(one.document, file)
            timing = Timing(**_revived(one.document["timing"], missing=None))
            clips.add(file, findings, timing, one.document["doubt"])
        studies = [*clips.studies(self.measuring).values()]
        store.write(TABLE_FILE, as_csv(studies).encode())
        body = {**self.provenance(), "studies": [study.as_dict() for study in studies]}
        store.write(STUDIES_FILE, (results.to_json(body, indent=2) + "\n").encode())


def _record(finding: Finding) -> dict[str, Any]:
    """Return what ``_findings`` makes a finding of again."""
    about = {"score": finding.score, "axis_doubt": finding.axis_doubt}
    return {**about, **finding.measurement.as_dict()}


def _findings(document: Mapping[str, Any], file: EchoFile) -> list[list[Finding]]:
    frames = document["frames"]
    found = []
    for row in frames:
        index = row["frame"]
        called = str(file.path) if len(frames) == 1 else f"{file.path} frame {index}"
        place = Place(file.view, index, file=called)
        found.append([_finding(record, place) for record in row["chambers"]])
    return found


def _finding(record: Mapping[str, Any], place: Place) -> Finding:
    fields = _revived(record, missing=math.nan)
    score, doubt = fields.pop("score"), fields.pop("axis_doubt")
    return Finding(place, Measurement(**fields), score, doubt)


def _revived(value: Any, *, missing: float | None) -> Any:
    """Undo what JSON did to values: tuples became lists, and NaN null."""
    if isinstance(value, dict):
        return {name: _revived(one, missing=missing) for name, one in value.items()}
    if isinstance(value, list):
        return tuple(_revived(one, missing=missing) for one in value)
    return missing if value is None else value
