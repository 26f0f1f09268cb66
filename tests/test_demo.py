"""Promises of ``fastseg demo``: a real image, found and drawn, without anything to download."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg import demo as demonstration
from fastseg.cli.root import run
from fastseg.images import read_image
from fastseg.storage.owned import RECORD
from fastseg.testing import tiny_sam_folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


def test_the_image_is_scikit_images_coins() -> None:
    data = pytest.importorskip("skimage.data", reason="the original comes with scikit-image")
    np.testing.assert_array_equal(np.asarray(Image.open(demonstration.PICTURE)), data.coins())


def test_the_source_note_names_this_very_file() -> None:
    note = (demonstration.PICTURE.parent / "SOURCE.md").read_text()
    assert hashlib.sha256(demonstration.PICTURE.read_bytes()).hexdigest() in note


def test_the_boxes_lie_inside_the_image() -> None:
    height, width = read_image(demonstration.PICTURE).shape[:2]
    for x0, y0, x1, y1 in demonstration.BOXES:
        assert 0 <= x0 < x1 < width
        assert 0 <= y0 < y1 < height


def test_the_demo_leaves_image_masks_and_timings_and_can_be_run_again(
    tiny, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "demo"
    assert run(["demo", "--model", tiny, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {file.name for file in out.iterdir()} == {
        "overlay.png",
        "masks.json",
        "timings.json",
        RECORD,
    }
    masks = json.loads((out / "masks.json").read_text())
    everything, boxes = json.loads((out / "timings.json").read_text())["steps"]
    assert len(masks["annotations"]) == everything["masks"] == document["steps"][0]["masks"]
    assert boxes["masks"] == len(demonstration.BOXES)
    assert everything["timings"]["per_mask_ms"] > 0
    assert document["device"] == "cpu"
    width, height = Image.open(out / "overlay.png").size
    assert width > height > 600
    assert run(["demo", "--model", tiny, "--out", str(out)]) == 0
    assert "overlay.png" in capsys.readouterr().out


def test_the_demo_replaces_nothing_that_is_not_its_own_and_says_so_before_it_works(
    tiny, tmp_path: Path, capsys, monkeypatch
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    monkeypatch.setattr(demonstration, "demo", lambda _: pytest.fail("it worked in vain"))
    assert run(["demo", "--model", tiny, "--out", str(tmp_path)]) == 2
    assert (tmp_path / "thesis.tex").is_file()
