"""View and study come from a DICOM header, and its identifier appears nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseg.cli import echo as verb
from fastseg.cli.root import run
from fastseg.echo.dicom import read_study_header
from fastseg.echo.files import Headers, recognise
from fastseg.errors import MeasurementError
from tests.cli.test_echo import Painted, paint
from tests.helpers.ultrasound_files import region, write_dicom

pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")

SECRET = "MRN-4711-0815"


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every view have a ``Painted`` network instead of the embedded one."""
    monkeypatch.setattr(verb, "load_unet", lambda name, *_, **__: Painted(name.split("-")[1]))


def coded(value: str, scheme: str = "SCT", meaning: str = "view") -> Any:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return [code]


def heart(path: Path, view: str = "a4c", **more: Any) -> Path:
    """A clip of two frames with painted chambers."""
    frames = np.stack([paint(view), paint(view, 0.75)])
    spacing = {"PhysicalDeltaX": 20 / 256, "PhysicalDeltaY": 20 / 256}
    place = region((0, 0, 255, 255), **spacing)
    fields = {"PatientID": SECRET, "StudyInstanceUID": "1.2.3"}
    return write_dicom(path, frames, regions=[place], **(fields | more))


@pytest.mark.parametrize(
    ("code", "view"),
    [
        (("399214001", "SCT"), "a4c"),
        (("399232001", "SCT"), "a2c"),
        (("399271003", "SCT"), "sax"),
        (("G-A19C", "SRT"), "a4c"),
        (("G-A19B", "SRT"), "a2c"),
    ],
)
def test_the_view_is_that_of_the_code_before_that_of_the_name(tmp_path, code, view) -> None:
    file = heart(tmp_path / "p7_a2c.dcm", ViewCodeSequence=coded(*code))
    header = read_study_header(file)
    assert header.view == view
    assert recognise(file, header=header).view == view
    assert recognise(file, view="sax", header=header).view == "sax"


def test_codes_are_those_of_the_dictionary_of_dicom() -> None:
    from pydicom.sr.codedict import codes

    from fastseg.echo.views import CODES

    for name, view in (
        ("ApicalTwoChamber", "a2c"),
        ("ApicalFourChamber", "a4c"),
        ("ParasternalShortAxisAtThePapillaryMuscleLevel", "sax"),
    ):
        code = getattr(codes.cid12226, name)
        assert CODES[code.scheme_designator, code.value] == view


def test_a_view_without_a_network_is_named_and_refused(tmp_path: Path) -> None:
    code = coded("399139001", meaning="Parasternal long axis")
    header = read_study_header(heart(tmp_path / "p7_a4c.dcm", ViewCodeSequence=code))
    with pytest.raises(MeasurementError, match="shows Parasternal long axis by its header"):
        recognise(tmp_path / "p7_a4c.dcm", header=header)
    assert recognise(tmp_path / "p7_a4c.dcm", view="a4c", header=header).view == "a4c"


def test_files_are_grouped_by_patient_and_study(tmp_path: Path) -> None:
    headers = Headers()
    one = heart(tmp_path / "IM0001.dcm")
    same = heart(tmp_path / "IM0002.dcm")
    later = heart(tmp_path / "IM0003.dcm", StudyInstanceUID="1.2.4")
    other = heart(tmp_path / "IM0004.dcm", PatientID="somebody else")
    nobody = heart(tmp_path / "IM0005.dcm", PatientID="")
    groups = [headers.read(file)[1] for file in (one, same, later, other, nobody)]
    assert groups == ["study 1", "study 1", "study 2", "study 3", ""]
    (tmp_path / "no.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"broken")
    assert headers.read(tmp_path / "no.dcm")[1] == ""


def test_files_of_one_header_are_one_study_whatever_they_are_called(
    painted, tmp_path, capsys
) -> None:
    files = [
        heart(tmp_path / "IM0001.dcm", "a4c", ViewCodeSequence=coded("399214001")),
        heart(tmp_path / "IM0002.dcm", "a2c", ViewCodeSequence=coded("399232001")),
    ]
    out = tmp_path / "out"
    assert run(["echo", *map(str, files), "--json", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    (study,) = document["studies"]
    assert study["patient"] == "study 1"
    assert study["rows"]["lv_ef_percent"]["value"] == pytest.approx(25.0, abs=1)
    for file in (*out.rglob("*"), None):
        content = text.encode() if file is None else file.read_bytes() if file.is_file() else b""
        assert SECRET.encode() not in content, file
    named = [heart(tmp_path / f"p7_{view}.dcm", view) for view in ("a2c", "a4c")]
    assert run(["echo", *map(str, named), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["studies"][0]["patient"] == "p7"


def test_two_patients_of_one_name_are_two_studies(painted, tmp_path, capsys) -> None:
    files = [
        heart(tmp_path / "p7_a2c.dcm", "a2c"),
        heart(tmp_path / "p7_a4c.dcm", "a4c", PatientID="somebody else"),
    ]
    assert run(["echo", *map(str, files), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["patient"] for one in document["studies"]] == ["p7", "p7 (study 2)"]
    assert run(["echo", *map(str, files), "--json", "--patient", "p7"]) == 0
    assert [one["patient"] for one in json.loads(capsys.readouterr().out)["studies"]] == ["p7"]


def test_an_sr_is_written_where_it_is_asked_for(painted, tmp_path, capsys) -> None:
    highdicom = pytest.importorskip("highdicom", reason="DICOM SR needs the extra 'dicom'")
    uids = {name: pydicom.uid.generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID")}
    file = heart(tmp_path / "p7_a4c.dcm", "a4c", Modality="US", PatientName="DOE^JANE", **uids)
    out = tmp_path / "out"
    assert run(["echo", str(file), "--json", "--out", str(out), "--sr"]) == 0
    rows = json.loads(capsys.readouterr().out)["studies"][0]["rows"]
    read = highdicom.sr.srread(str(out / "reports" / "p7.dcm"))
    groups = read.content.get_image_measurement_groups()
    assert groups
    for one in groups:
        assert one.get_measurements()[0].value == rows[one.tracking_identifier]["value"]
    assert b"DOE" not in (out / "reports" / "p7.dcm").read_bytes()
    array = tmp_path / "p7_a2c.npy"
    np.save(array, paint("a2c"))
    assert run(["echo", str(array), "--sr", "--out", str(tmp_path / "other")]) == 2
    assert "p7_a2c.npy is none" in capsys.readouterr().err
    assert run(["echo", str(file), "--sr"]) == 2
    assert "--out" in capsys.readouterr().err
