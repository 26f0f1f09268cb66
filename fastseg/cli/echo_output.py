"""Files of ``fastseg echo`` in a result folder: images, animations and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from PIL import Image

from fastseg.echo.files import EchoFile, Frames, StudyKey
from fastseg.echo.findings import Finding
from fastseg.echo.output.animation import UNKNOWN_FRAME_MS, animation
from fastseg.echo.output.curve import draw_curve
from fastseg.echo.output.page import PageImage, as_page
from fastseg.echo.output.structured_report import structured_report
from fastseg.echo.output.table import as_csv
from fastseg.echo.picture import EchoPanel, draw, frame_part
from fastseg.echo.report import FOUND_BY_NETWORKS, Study
from fastseg.echo.views import VIEWS
from fastseg.environment import thread_count
from fastseg.environment.threads import Team
from fastseg.inputs.text import file_stem
from fastseg.masks import Masks
from fastseg.results import ResultFolder

TABLE_FILE = "measurements.csv"

MOST_FRAMES = 240
"""Frames of a animation; of a longer clip every second, third, ... frame is shown."""

_REDUCTION = 2  # of a animation against the drawing of a frame
_PAGE_WIDTH = 900  # of the drawings on a page, in pixels


@dataclass(slots=True)
class EchoOutput:
    """The files of one call."""

    folder: ResultFolder
    overlays: bool
    threads: int
    describe: Callable[[str], str]
    """Names the network of a view and what it ran on."""

    drawn: dict[str, str] = field(default_factory=dict)  # names of drawings, by frame
    hints: list[str] = field(default_factory=list)

    def add_clip(
        self,
        file: EchoFile,
        frames: Frames,
        clip: Sequence[Masks],
        findings: Sequence[Sequence[Finding]],
    ) -> None:
        """Write the masks of a clip, and a drawing of each frame and of the clip."""
        names = [
            self.folder.add(str(found[0].place), frames.as_image(index), masks,
                            stem=frames.stem(index))
            for index, (masks, found) in enumerate(zip(clip, findings, strict=True))
        ]  # fmt: skip
        if not self.overlays:
            return
        step = -(-len(clip) // MOST_FRAMES)

        def one(index: int) -> Image.Image | None:
            found = findings[index]
            place = found[0].place
            title = f"{PurePath(str(place)).name} · {VIEWS[place.view].title}"
            if file.view_found_by == "networks":
                title += f" · {FOUND_BY_NETWORKS}"
            panel = EchoPanel(
                frames.as_image(index), clip[index], found, title, self.describe(place.view)
            )
            sheet = draw(panel)
            self.folder.draw(names[index], sheet)
            self.drawn[str(place)] = names[index]
            return frame_part(sheet, panel).reduce(_REDUCTION) if index % step == 0 else None

        with Team(max(1, thread_count(self.threads) - 1)) as team:
            small = [image for image in team.map(one, range(len(clip))) if image is not None]
        if len({image.size for image in small}) == 1 and len(small) > 1:
            pace = (frames.timing.frame_ms or UNKNOWN_FRAME_MS) * step
            self._save(f"clips/{file_stem(file.path.stem)}.webp", animation(small, frame_ms=pace))

    def add_studies(
        self, studies: Mapping[StudyKey, Study], sources: Mapping[StudyKey, Sequence[Path]] | None
    ) -> None:
        """Write the table of all studies, and a page and the area curves of each.

        Args:
            studies: The reports.
            sources: The DICOM files of each study, if it is to have a DICOM SR.
        """
        self._save(TABLE_FILE, as_csv(studies.values()).encode("utf-8"))
        for number, (key, study) in enumerate(studies.items(), start=1):
            stem = file_stem(PurePath(study.patient).name or "report")
            stem = stem if len(studies) == 1 else f"{stem}-{number}"
            page = as_page(study, list(self._frames_that_count(study)))
            self._save(f"reports/{stem}.html", page.encode("utf-8"))
            for curve in study.curves:
                if self.overlays and len(curve.areas_cm2) > 1:
                    name = Path("curves", f"{stem}-{curve.view}-{curve.chamber}.png")
                    self._file(str(name)).parent.mkdir(parents=True, exist_ok=True)
                    draw_curve(curve).save(self._file(str(name)))
            if sources is None:
                continue
            if any(row.beats for row in study.rows):
                self._save(f"reports/{stem}.dcm", structured_report(study, sources[key]))
            else:
                self.hints.append(f"{study.patient}: no DICOM SR, as no measurement has a value")

    def _frames_that_count(self, study: Study) -> list[PageImage]:
        """Return the drawings of the frames that rows with a value were made from."""
        rows = [row for row in study.rows if row.beats]
        images = []
        for frame in dict.fromkeys(frame for row in rows for frame in row.frames):
            if frame not in self.drawn:
                continue
            with Image.open(self._file(f"overlays/{self.drawn[frame]}.png")) as image:
                sheet = image.convert("RGB")
            height = round(sheet.height * _PAGE_WIDTH / sheet.width)
            small = sheet.resize((_PAGE_WIDTH, height), Image.Resampling.BOX)
            used = ", ".join(row.title for row in rows if frame in row.frames)
            name = PurePath(frame).name
            images.append(PageImage(small, f"{name}: {used}", _words(study, frame)))
        return images

    def _save(self, name: str, content: bytes) -> None:
        file = self._file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def _file(self, name: str) -> Path:
        return self.folder.path / name


def _words(study: Study, frame: str) -> str:
    """Say in words what the drawing of a frame shows."""
    chambers = [one for one in study.findings if str(one.place) == frame]
    told = ", ".join(
        f"{one.measurement.name} {one.measurement.area_cm2:.1f} cm2" for one in chambers
    )
    return f"Drawing of {PurePath(frame).name} with its chambers: {told}."
