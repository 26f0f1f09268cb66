"""Files of two patients never make one study, whatever their names have in common."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseg.cli.root import run
from fastseg.echo.files import EchoFile, StudyKey, recognise, study_titles
from fastseg.testing import tiny_unet_folder

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), max_size=8)


def joined(first: EchoFile, second: EchoFile) -> bool:
    """Tell if two files count as one patient, in studies or in clips of single frames."""
    return first.study == second.study or first.clip(1) == second.clip(1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller", "Möller"),
        ("Müller", "Muller"),
        ("Łukasz", "Žukasz"),
        ("王芳", "李芳"),
        ("Иванов", "Петров"),
        ("p-1", "p_1"),
        ("p 1", "p.1"),
        ("p1-", "p1"),
        ("(7)", "7"),
        ("P1", "p1"),
        ("strasse", "straße"),
        ("p1", "\uff501"),
        ("कि", "की"),
    ],
)
def test_names_that_differ_are_two_patients(one: str, other: str) -> None:
    first, second = recognise(Path(f"{one}_a4c.npy")), recognise(Path(f"{other}_a4c.npy"))
    assert (first.patient, second.patient) == (one, other)
    assert not joined(first, second)


@given(NAMES, NAMES)
def test_any_two_names_are_one_patient_only_if_equal_in_nfc(one: str, other: str) -> None:
    files = [recognise(Path(f"{name}_a4c.npy"), view="a4c") for name in (one, other)]
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    if files[0].patient and files[1].patient:
        assert joined(*files) == same


def test_one_name_in_two_normal_forms_is_one_patient() -> None:
    forms = [unicodedata.normalize(form, "Müller_a4c.npy") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    assert joined(*(recognise(Path(name)) for name in forms))
    given = [recognise(Path("a4c.npy"), patient=name) for name in ("M\u00fc", "Mu\u0308")]
    assert joined(*given)


def test_a_view_inside_a_word_of_another_script_is_no_view() -> None:
    assert recognise(Path("Möa4c.npy"), default_view="a2c").view == "a2c"
    assert recognise(Path("किa4c.npy"), default_view="a2c").view == "a2c"


def test_one_name_in_two_folders_is_two_patients_unless_asked(tmp_path: Path) -> None:
    paths = [tmp_path / "siteA" / "p1_a4c.npy", tmp_path / "siteB" / "p1_a2c.npy"]
    assert not joined(*(recognise(path) for path in paths))
    assert not joined(*(recognise(path, view="a4c") for path in paths))
    assert joined(*(recognise(path, patient="p1", view="a4c") for path in paths))


def test_one_folder_in_two_spellings_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "site")
    spellings = ("site", "site/../site", "linked")
    files = [recognise(tmp_path / folder / "p1_a4c.npy") for folder in spellings]
    assert len({file.study for file in files}) == 1


def test_studies_of_one_name_are_told_apart_by_their_folders() -> None:
    keys = [StudyKey("p1", "/a"), StudyKey("p1", "/b"), StudyKey("p2", "/a")]
    assert [*study_titles(keys).values()] == ["/a/p1", "/b/p1", "p2"]


def test_a_patient_in_two_folders_has_a_hint(tmp_path, capsys) -> None:
    model = tiny_unet_folder(tmp_path / "tiny")
    frame = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for site in ("A", "B"):
        (tmp_path / site).mkdir()
        np.save(tmp_path / site / "p1_a2c.npy", frame)
    files = [str(tmp_path / site / "p1_a2c.npy") for site in ("A", "B")]
    assert run(["echo", *files, "--model", str(model)]) == 0
    told = capsys.readouterr()
    assert "p1 is in 2 folders" in told.err
    assert "--patient" in told.err
    for site in ("A", "B"):
        assert str(tmp_path / site / "p1") in told.out
    assert run(["echo", *files, "--model", str(model), "--patient", "p1"]) == 0
    assert "folders" not in capsys.readouterr().err
