"""Promises of ``fastseg.echo.output``: a report as files, with equal numbers and the notice."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.echo import Study, save_report, study
from fastseg.echo.beats import AreaCurve
from fastseg.echo.output.animation import animation
from fastseg.echo.output.curve import HEIGHT, WIDTH, describe, draw_curve
from fastseg.echo.output.page import PageImage, as_page
from fastseg.echo.output.table import COLUMNS, as_csv
from fastseg.echo.picture import colour
from fastseg.errors import ImageError, OutputError
from fastseg.imaging import Timing
from fastseg.provenance import NOTICE
from tests.helpers.chamber_bodies import clip
from tests.helpers.ultrasound_files import tissue, write_dicom

TIMING = Timing(40.0, 60.0, (0.0, 1000.0, 2000.0))


def report(patient: str = "p7", name: str = "") -> Study:
    """A report of two beats of an LV, with rows that have a value and rows that have none."""
    areas = 30 + 8 * np.sin(2 * math.pi * np.arange(50) / 25)
    found = clip("a4c", "LV", areas.tolist())
    if name:
        found = [
            replace(one, place=replace(one.place, file=f"{name} frame {one.place.frame}"))
            for one in found
        ]
    return study(found, patient=patient, timing=TIMING)


def test_cautions_of_the_study_stand_in_each_row_of_the_csv() -> None:
    made = replace(report(), cautions=("the view is doubtful",))
    for line in csv.DictReader(io.StringIO(as_csv([made]))):
        assert "the view is doubtful" in line["caution"]


def test_csv_has_every_row_with_all_digits() -> None:
    made = report()
    lines = list(csv.DictReader(io.StringIO(as_csv([made, made]))))
    assert len(lines) == 2 * len(made.rows)
    assert tuple(lines[0]) == COLUMNS
    for line, row in zip(lines, made.rows, strict=False):
        assert line["measurement"] == row.name
        assert line["notice"] == NOTICE
        if math.isnan(row.value):
            assert (line["value"], line["reason"]) == ("", row.reason)
        else:
            assert float(line["value"]) == row.value
            assert float(line["low"]) == row.low
            assert line["beats"] == "2"


def test_a_patient_called_like_a_formula_is_text_in_a_spreadsheet() -> None:
    line = next(csv.DictReader(io.StringIO(as_csv([report("=1+1")]))))
    assert line["patient"] == "'=1+1"


class Page(HTMLParser):
    """Reads what a test asks for; an element that is not closed is an error."""

    EMPTY = frozenset(("meta", "img", "br", "!doctype"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.heads = 0
        self.words = ""
        self.outside: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs) -> None:
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        if tag == "th":
            assert given.get("scope") in ("row", "col")
            self.heads += 1
        self.outside += [
            value for name, value in attrs if name in ("src", "href") and value[:5] != "data:"
        ]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_holds_all_of_the_report_and_needs_nothing_else() -> None:
    made = replace(report("<p&7>"), cautions=("the frames may be another view",))
    image = PageImage(Image.new("RGB", (30, 20)), "a frame", "Drawing of a frame.")
    text = as_page(made, [image])
    page = Page(text)
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert page.words.count(NOTICE) >= 2
    assert "Echo report <p&7>" in page.words
    assert "the frames may be another view" in page.words
    assert page.outside == []
    for row in made.rows:
        assert row.title in page.words
        if math.isfinite(row.value):
            assert f"{row.value:.1f}" in page.words
            assert f"{row.low:.1f} to {row.high:.1f} (2)" in page.words
        else:
            assert row.reason in page.words
    assert [one["alt"] for one in page.images] == [describe(made.curves[0]), "Drawing of a frame."]
    assert all(one["width"] and one["height"] for one in page.images)


def curve_of(areas: list[float], used: list[bool]) -> AreaCurve:
    made = report().curves[0]
    return replace(made, areas_cm2=tuple(areas), used=tuple(used), beats=made.beats[:1])


def test_the_image_of_a_curve_has_its_line_its_beats_and_the_frames_that_count() -> None:
    (curve,) = report().curves
    drawn = np.asarray(draw_curve(curve)).astype(int)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    line = np.abs(drawn - np.array(colour("LV"))).max(axis=2) < 30
    columns = np.flatnonzero(line.any(axis=0))
    assert columns.max() - columns.min() > 0.85 * WIDTH
    white = (drawn > 215).all(axis=2)
    marks = white[90 : HEIGHT - 95].sum()
    single = replace(curve, beats=curve.beats[:1])
    fewer = (np.asarray(draw_curve(single)) > 215).all(axis=2)[90 : HEIGHT - 95].sum()
    assert marks > 1.6 * fewer > 0
    words = describe(curve)
    for beat in curve.beats:
        assert f"in frame {beat.largest}, smallest" in words
        assert f"in frame {beat.smallest}." in words


def test_a_curve_of_unknown_areas_can_be_drawn() -> None:
    nothing = [math.nan] * 3
    (curve,) = report().curves
    empty = replace(curve, areas_cm2=tuple(nothing), used=(False,) * 3, beats=())
    assert draw_curve(empty).size == (WIDTH, HEIGHT)
    assert "of which 0 take part" in describe(empty)


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_clip_becomes_a_moving_image_of_all_its_frames(kind: str) -> None:
    frames = [Image.new("RGB", (64, 48), (40 * number, 10, 10)) for number in range(5)]
    with Image.open(BytesIO(animation(frames, frame_ms=50, format=kind))) as moving:
        assert moving.n_frames == 5
        assert moving.size == (64, 48)
        moving.seek(4)
        moving.load()
        assert abs(np.asarray(moving.convert("RGB"))[20, 20, 0].astype(int) - 160) < 8
        assert moving.info["duration"] == 50


def test_a_clip_without_frames_is_no_moving_image() -> None:
    with pytest.raises(OutputError, match="at least one"):
        animation([])
    with pytest.raises(OutputError, match='"webp" or "gif"'):
        animation([Image.new("RGB", (8, 8))], format="mp4")


def test_json_and_csv_and_html_are_written_by_their_suffix(tmp_path: Path) -> None:
    made = report()
    document = json.loads(save_report(made, tmp_path / "r.json").read_text(encoding="utf-8"))
    assert document["notice"] == NOTICE
    assert document["rows"]["lv_ef_a4c_percent"]["value"] == made["lv_ef_a4c_percent"].value
    assert document["curves"][0]["found_by"] == "R wave"
    assert save_report(made, tmp_path / "r.csv").read_bytes() == as_csv([made]).encode("utf-8")
    assert save_report(made, tmp_path / "r.html").read_text(encoding="utf-8") == as_page(made)
    with pytest.raises(OutputError, match=r"\.json, \.csv, \.html, \.dcm"):
        save_report(made, tmp_path / "r.pdf")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["r.csv", "r.html", "r.json"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pytest.importorskip("highdicom", reason="DICOM SR needs the extra 'dicom'")
    from pydicom.uid import generate_uid

    return write_dicom(
        tmp_path / "heart.dcm",
        tissue(50),
        PatientName="DOE^JANE",
        PatientID="MRN-4711",
        PatientBirthDate="19600101",
        PatientComments="knows DOE",
        Modality="US",
        StudyInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(),
        InstanceNumber=1,
        SeriesNumber=1,
        Manufacturer="none",
    )


def test_dicom_sr_reads_back_with_equal_numbers(source: Path, tmp_path: Path) -> None:
    import highdicom
    import pydicom

    made = replace(report("p7", str(source)), cautions=(f"{source}: the view is doubtful",))
    file = save_report(made, tmp_path / "sr.dcm", sources=[source])
    read = highdicom.sr.srread(str(file))
    groups = {one.tracking_identifier: one for one in read.content.get_image_measurement_groups()}
    found = {row.name: row for row in made.rows if math.isfinite(row.value)}
    assert set(groups) == set(found)
    for name, row in found.items():
        (value,) = groups[name].get_measurements()
        assert value.value == row.value
        assert value.name.value == name
        assert groups[name].finding_sites[0].value.meaning == "Left ventricle"
        frames = groups[name].source_images[0].referenced_frame_numbers
        numbers = [int(frame.rpartition(" ")[2]) + 1 for frame in row.frames]
        assert list(np.atleast_1d(frames)) == sorted(numbers)
    plain = pydicom.dcmread(file)
    assert plain.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    assert plain.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    text = file.read_bytes()
    assert NOTICE.encode() in text
    assert b"over 2 beats" in text
    assert b"the view is doubtful" in text
    assert source.name.encode() not in text
    assert (plain.VerificationFlag, plain.CompletionFlag) == ("UNVERIFIED", "PARTIAL")
    for secret in (b"DOE", b"MRN-4711", b"19600101"):
        assert secret not in text
    kept = save_report(made, tmp_path / "kept.dcm", sources=[source], keep_patient=True)
    assert pydicom.dcmread(kept).PatientID == "MRN-4711"


def test_dicom_sr_without_a_source_or_a_value_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="DICOM files"):
        save_report(report(), tmp_path / "sr.dcm")
    with pytest.raises(OutputError, match="with a value"):
        save_report(study([]), tmp_path / "sr.dcm", sources=[source])
    array = tmp_path / "p7_a4c.npy"
    np.save(array, np.zeros((8, 8), np.uint8))
    with pytest.raises(ImageError, match="is no DICOM file"):
        save_report(report(), tmp_path / "sr.dcm", sources=[array])
    assert not (tmp_path / "sr.dcm").exists()


def test_the_page_names_no_other_server() -> None:
    assert not re.findall(r"https?://", as_page(report()))
