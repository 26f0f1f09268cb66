"""Promises of ``fastseg propagate`` and of ``--format``, on a tiny model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg import imaging
from fastseg.cli.root import run
from fastseg.storage.owned import RECORD
from fastseg.testing import tiny_sam_folder
from tests.helpers.dicom_files import slices, write

pytest.importorskip("pydicom", reason="DICOM files need pydicom")
nibabel = pytest.importorskip("nibabel", reason="NIfTI files need nibabel")

VOLUME = np.random.default_rng(0).integers(0, 2000, (5, 24, 32)).astype(np.int16)
BOX = (4, 5, 20, 18)
LOOSE = ("--min-score", -1000, "--max-change", 1000, "--max-shift", 1000)
FIELDS: dict[str, Any] = {
    "StudyInstanceUID": "1.2.3",
    "FrameOfReferenceUID": "1.2.3.9",
    "SliceThickness": 2.5,
    "NumberOfFrames": None,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    slices(tmp_path / "a series [1]", VOLUME, **FIELDS)
    return tmp_path / "a series [1]"


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], str]:
    code = run([*map(str, words), "--json"])
    found = capsys.readouterr()
    return code, json.loads(found.out), found.err


def test_propagate_answers_as_the_library_does(tiny, series, capsys) -> None:
    words = ("--model", tiny, "--window", "0,2000", "--start", 2, *LOOSE)
    code, document, _ = answer(capsys, "propagate", series, *words, "--box", *BOX)
    assert code == 0
    with fastseg.load(tiny) as model:
        found = model.propagate(
            imaging.read(series, window=(0, 2000)),
            start=2,
            boxes=BOX,
            min_score=-1000,
            max_change=1000,
            max_shift=1000,
        )
    (row,) = document["objects"]
    assert found.millilitres is not None
    assert row["voxels"] == found.voxels[0]
    assert row["ml"] == pytest.approx(found.millilitres[0], abs=1e-6)
    assert [one["reason"] for one in row["stops"]] == [one.reason for one in found.stops]
    assert document["spacing_mm"] == pytest.approx([2.5, 0.8, 0.5])
    for entry in document["slices"]:
        (annotation,) = entry["annotations"]
        assert annotation["segmentation"] == found[entry["slice"]].coco()[0]
        assert annotation["area_mm2"] == pytest.approx(annotation["area"] * 0.4, abs=1e-3)
    assert "research" in document["notice"].lower()


def test_propagate_writes_volumes_drawings_and_coco(tiny, series, tmp_path, capsys) -> None:
    highdicom = pytest.importorskip("highdicom")
    out = tmp_path / "out"
    words = ("--model", tiny, "--window", "0,2000", "--out", out, *LOOSE, "--box", *BOX)
    formats = [word for name in ("nii.gz", "nrrd", "dcm", "csv") for word in ("--format", name)]
    assert answer(capsys, "propagate", series, *words, *formats)[0] == 0
    stem = "a series [1]"
    labels = imaging.read(out / "masks" / f"{stem}.nii.gz")
    source = imaging.read(series)
    np.testing.assert_allclose(labels.affine, source.affine, atol=1e-4)
    np.testing.assert_array_equal(
        imaging.read(out / "masks" / f"{stem}.nrrd").values, labels.values
    )
    seg = highdicom.seg.segread(out / "masks" / f"{stem}.dcm")
    assert seg.get_volume(combine_segments=True).array.astype(bool).sum() == labels.values.sum()
    rows = list(csv.DictReader((out / "masks" / f"{stem}.csv").open(encoding="utf-8")))
    assert int(rows[-1]["pixels"]) == labels.values.sum()
    coco = json.loads((out / "masks.json").read_text())
    used = np.flatnonzero(labels.values.any((1, 2))).tolist()
    assert [image["frame"] for image in coco["images"]] == used
    with Image.open(out / "overlays" / f"{stem}.png") as sheet:
        assert sheet.width > 200
    assert (out / RECORD).is_file()
    code, document, _ = answer(capsys, "propagate", series, *words)
    assert code == 2
    assert "--overwrite" in document["error"]["message"]
    assert answer(capsys, "propagate", series, *words, "--overwrite", "--no-overlay")[0] == 0
    assert not (out / "overlays").exists()


def test_several_objects_corrections_and_another_axis(tiny, series, capsys) -> None:
    words = ("--model", tiny, "--window", "0,2000", *LOOSE, "--start", 1, "--box", *BOX)
    more = ("--box", 1, 1, 9, 9, "--correct", 4, 1, 2, 2, 12, 12)
    more += ("--name", "liver", "--name", "spleen")
    code, document, _ = answer(capsys, "propagate", series, *words, *more)
    assert code == 0
    assert [one["name"] for one in document["objects"]] == ["liver", "spleen"]
    stops = document["objects"][1]["stops"]
    assert [(one["start"], one["step"]) for one in stops] == [(1, 1), (1, -1), (4, 1), (4, -1)]
    assert {one["reason"] for one in stops} <= {"next prompt", "end of the volume", "empty"}
    sides = ("--axis", 1, "--start", 7, "--box", 2, 1, 20, 4)
    words = ("--model", tiny, "--window", "0,2000", *LOOSE)
    code, document, _ = answer(capsys, "propagate", series, *words, *sides)
    assert code == 0
    assert document["objects"][0]["slices"][0] >= 0


def test_a_checkpoint_is_used_up(tiny, series, tmp_path, capsys, monkeypatch) -> None:
    state = tmp_path / "state.npz"
    words = ("--model", tiny, "--window", "0,2000", *LOOSE, "--box", *BOX, "--checkpoint", state)
    with monkeypatch.context() as patch:
        from fastseg.sam import propagation

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(propagation.Propagation, "_lost", interrupted)
        assert run(["propagate", str(series), *map(str, words)]) == 130
    assert state.exists()
    capsys.readouterr()
    code, document, _ = answer(capsys, "propagate", series, *words)
    assert (code, state.exists()) == (0, False)
    assert document["embedded"] < 5


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "--box"),
        (("--box", 4, 5, 20, 18, "--start", 9), 2, "no slice 9"),
        (("--box", 4, 5, 4, 18), 2, "reversed or empty"),
        (("--box", 400, 5, 440, 18), 2, "outside the image"),
        (("--box", *BOX, "--window", "dark"), 1, "no window"),
        (("--box", *BOX, "--window", "40,0"), 1, "width of the window"),
        (("--box", *BOX), 1, "--window"),
        (("--box", *BOX, "--series", "77"), 1, "series"),
        (("--box", *BOX, "--format", "nii"), 2, "--out"),
        (("--box", *BOX, "--max-change", 0.5), 2, "max_change"),
        (("--box", *BOX, "--label", 1), 2, "--label"),
        (("--box", *BOX, "--box", *BOX, "--point", 3, 3), 2, "several"),
        (("--box", *BOX, "--correct", 1, 5, *BOX, "--window", "0,2000"), 2, "without gaps"),
    ],
)
def test_bad_calls_say_what_is_wrong(tiny, series, capsys, words, code, told) -> None:
    found, document, err = answer(capsys, "propagate", series, "--model", tiny, *words)
    assert found == code, document
    assert told in document["error"]["message"]
    assert told.split()[0] in err


def test_odd_volumes_are_refused(tiny, series, tmp_path, capsys) -> None:
    words = ("--model", tiny, "--window", "0,2000", "--box", *BOX)
    four = tmp_path / "four.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((32, 24, 5, 2), np.int16), np.eye(4)), four)
    code, document, _ = answer(capsys, "propagate", four, *words)
    assert (code, "--volume-number" in document["error"]["message"]) == (1, True)
    assert answer(capsys, "propagate", four, *words, "--volume-number", 1)[0] == 0
    assert answer(capsys, "propagate", four, *words, "--volume-number", 2)[0] == 1
    (series / "14.dcm").unlink()
    code, document, _ = answer(capsys, "propagate", series, *words)
    assert (code, "missing" in document["error"]["message"]) == (1, True)
    code, document, _ = answer(capsys, "propagate", tmp_path / "none", *words)
    assert code == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert answer(capsys, "propagate", empty, *words)[0] == 1


def test_segment_writes_every_format(tiny, tmp_path, capsys) -> None:
    highdicom = pytest.importorskip("highdicom")
    pytest.importorskip("nrrd", reason="NRRD files need pynrrd")
    place = {
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 2],
    }
    file = write(tmp_path / "a.dcm", VOLUME[:1], **FIELDS, **place)
    out = tmp_path / "out"
    names = ("nii", "nii.gz", "nrrd", "tif", "tiff", "png", "json", "geojson", "csv", "dcm")
    formats = [word for name in names for word in ("--format", name)]
    words = ("--model", tiny, "--window", "0,2000", "--box", *BOX, "--out", out)
    assert answer(capsys, "segment", file, *words, "--best", *formats)[0] == 0
    assert {path.name for path in (out / "masks").iterdir()} == {f"a.{name}" for name in names}
    area = json.loads((out / "masks.json").read_text())["annotations"][0]
    assert area["area_mm2"] == area["area"]
    assert highdicom.seg.segread(out / "masks" / "a.dcm").pixel_array.sum() == area["area"]
    # A pixel is four times as wide as high.
    with Image.open(out / "overlays" / "a.png") as drawing:
        assert drawing.width > 3 * drawing.height


def test_masks_that_overlap_fail_alone(tiny, tmp_path, capsys) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(VOLUME[0].astype(np.uint8)).save(file)
    words = ("--model", tiny, "--box", *BOX, "--box", 1, 1, 22, 22, "--format", "nii")
    out = ("--out", tmp_path / "out")
    code, document, err = answer(capsys, "segment", file, *words, *out)
    assert code == 1
    assert "--best" in err
    assert not (tmp_path / "out").exists()
    assert document["pictures"][0]["error"]["type"] == "MaskError"
    with_seg = ("--format", "dcm", *out)
    assert answer(capsys, "segment", file, "--model", tiny, "--box", *BOX, *with_seg)[0] == 1
