"""Medical images in the calls of models and in the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg.cli.root import run
from fastseg.errors import ImageError
from fastseg.images import read_image
from fastseg.imaging import read
from fastseg.sam.model import Sam
from fastseg.testing import tiny_sam_folder
from tests.helpers.dicom_files import slices, write

pytest.importorskip("pydicom", reason="DICOM files need pydicom")

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (3, 24, 32)).astype(np.int16)
BOX = [4, 5, 20, 18]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Sam:
    found = fastseg.load(str(tiny_sam_folder(tmp_path_factory.mktemp("tiny") / "tiny")))
    assert isinstance(found, Sam)
    return found


def test_a_model_sees_the_window_of_the_image(model: Sam) -> None:
    image = read(VOLUME[:1], window="soft-tissue")
    seen = np.repeat(image.view[..., None], 3, axis=2)
    found, expected = (model.segment(one, boxes=BOX) for one in (image, seen))
    np.testing.assert_array_equal(found.logits, expected.logits)
    np.testing.assert_array_equal(model.embed(image).features, model.embed(seen).features)
    kept = model.everything(image, points_per_side=2, pred_iou_thresh=0)
    assert kept.size == (24, 32)


def test_a_volume_is_a_stack_of_images(model: Sam) -> None:
    volume = read(VOLUME, window="soft-tissue")
    found = list(model.stream(volume, boxes=[BOX] * 3))
    alone = [model.segment(frame, boxes=BOX) for frame in volume]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
    assert len(model.segment(volume, boxes=[BOX] * 3)) == 3


def test_an_image_is_read_by_numpy_and_by_read_image() -> None:
    image = read(VOLUME[:1], window=(0, 2000))
    np.testing.assert_array_equal(np.asarray(image), image.view)
    np.testing.assert_array_equal(read_image(image)[..., 1], image.view)
    assert (image.shape, image.ndim, image.dtype) == ((24, 32, 1), 3, np.uint8)
    with pytest.raises(ImageError, match="needs a window"):
        read_image(read(VOLUME[:1]))


def test_fastseg_has_imaging_at_once() -> None:
    assert fastseg.imaging.read is read


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict, str]:
    code = run([*map(str, words), "--json"])
    found = capsys.readouterr()
    return code, json.loads(found.out), found.err


def test_commands_read_a_file_in_its_window(tmp_path: Path, capsys, model: Sam) -> None:
    folder = tiny_sam_folder(tmp_path / "tiny")
    file = write(tmp_path / "a.dcm", VOLUME[:1])
    words = ("--model", folder, "--box", *BOX)
    code, document, _ = command(capsys, "segment", file, *words, "--window", "soft-tissue")
    assert code == 0
    assert document["settings"]["window"] == "soft-tissue"
    (row,) = document["pictures"]
    expected = model.segment(read(VOLUME[:1], window="soft-tissue"), boxes=BOX)
    assert [one["area"] for one in row["annotations"]] == expected.areas.tolist()
    code, document, _ = command(capsys, "segment", file, *words)
    assert code == 1
    assert "--window" in document["pictures"][0]["error"]["message"]


def test_commands_take_one_frame_of_many(tmp_path: Path, capsys) -> None:
    folder = tiny_sam_folder(tmp_path / "tiny")
    file = write(tmp_path / "a.dcm", VOLUME, WindowCenter=0, WindowWidth=500)
    words = ("--model", folder, "--box", *BOX)
    for more, told in (((), "3 frames. Choose one"), (("--frame", 3), "no --frame 3")):
        _, document, _ = command(capsys, "segment", file, *words, *more)
        assert told in document["pictures"][0]["error"]["message"]
    code, document, _ = command(capsys, "segment", file, *words, "--frame", 2)
    assert code == 0
    assert document["settings"]["frame"] == 2


def test_a_folder_of_slices_is_a_batch(tmp_path: Path, capsys) -> None:
    folder = tiny_sam_folder(tmp_path / "tiny")
    slices(tmp_path / "series", VOLUME)
    words = ("--model", folder, "--points-per-side", 1, "--window", "lung")
    code, document, _ = command(capsys, "everything", tmp_path / "series", *words)
    assert code == 0
    assert len(document["pictures"]) == 3


def test_nothing_of_the_patient_is_written(tmp_path: Path, capsys) -> None:
    folder = tiny_sam_folder(tmp_path / "tiny")
    file = write(tmp_path / "a.dcm", VOLUME[:1])
    words = ("--model", folder, "--box", *BOX, "--window", "lung", "--out", tmp_path / "out")
    code, document, err = command(capsys, "segment", file, *words)
    assert code == 0
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for text in (json.dumps(document).encode(), err.encode(), *written):
        assert b"Known" not in text
        assert b"PX4711Q" not in text
