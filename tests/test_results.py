"""Promises of ``fastseg.results``: a folder that other programs can read, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg import results
from fastseg.errors import OutputError
from tests.helpers.made_masks import rectangles

IMAGE = np.full((30, 40, 3), 100, np.uint8)
MASKS = rectangles((30, 40), [(1, 2, 10, 12), (20, 5, 39, 29)])
INFO = {"model": "drawn", "device": "cpu", "precision": "fp32"}


def folder(path: Path, mode: str = "coco_rle", **options: bool) -> Path:
    contents = results.Contents(mode=mode)
    with results.write(path / "out", INFO, contents=contents, **options) as writing:
        writing.add("a/one.png", IMAGE, MASKS)
        writing.add("b/one.png", IMAGE, MASKS[:1])
        writing.report({"exit_code": 0})
    return path / "out"


def test_masks_can_be_read_by_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(folder(tmp_path) / "masks.json")
    assert [image["file_name"] for image in coco.loadImgs([1, 2])] == ["a/one.png", "b/one.png"]
    found = [coco.annToMask(annotation) for annotation in coco.loadAnns(coco.getAnnIds([1]))]
    np.testing.assert_array_equal(np.array(found, bool), MASKS.array())
    assert len(coco.getAnnIds([2])) == 1


def test_annotations_say_what_sam_says_of_a_mask(tmp_path: Path) -> None:
    document = json.loads((folder(tmp_path) / "masks.json").read_text())
    first = document["annotations"][0]
    assert first["bbox"] == [1, 2, 9, 10]
    assert first["area"] == 110
    assert first["predicted_iou"] == pytest.approx(0.9)
    assert first["stability_score"] == 1.0
    assert first["prompt"] == 0
    assert document["info"]["precision"] == "fp32"
    assert "research use only" in document["info"]["notice"]


def test_named_masks_have_a_category_of_their_name(tmp_path: Path) -> None:
    with results.write(tmp_path / "out", INFO) as writing:
        first = writing.add("a.npy frame 0", IMAGE, replace(MASKS, names=("LA", "LV")), stem="a")
        second = writing.add("a.npy frame 1", IMAGE, replace(MASKS, names=("LV", "RV")), stem="a")
    assert (first, second) == ("a", "a-2")
    document = json.loads((tmp_path / "out" / "masks.json").read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    found = [names[one["category_id"]] for one in document["annotations"]]
    assert found == ["LA", "LV", "LV", "RV"]
    nameless = json.loads((folder(tmp_path / "other") / "masks.json").read_text())
    assert nameless["categories"] == [{"id": 1, "name": "segment"}]


def test_uncompressed_counts_cover_the_image(tmp_path: Path) -> None:
    path = folder(tmp_path, "uncompressed_rle")
    document = json.loads((path / "masks.json").read_text())
    for annotation in document["annotations"]:
        assert sum(annotation["segmentation"]["counts"]) == 30 * 40


def test_binary_masks_are_images_of_the_mask(tmp_path: Path) -> None:
    path = folder(tmp_path, "binary_mask")
    pixels = np.asarray(Image.open(path / "masks" / "one" / "0002.png"))
    np.testing.assert_array_equal(pixels > 0, MASKS.array()[1])
    assert (path / "masks" / "one-2" / "0001.png").is_file(), "same name, other folder"


def test_each_image_has_its_overlay(tmp_path: Path) -> None:
    names = {file.name for file in (folder(tmp_path) / "overlays").iterdir()}
    assert names == {"one.png", "one-2.png"}


def test_nothing_is_left_when_the_block_fails(tmp_path: Path) -> None:
    def interrupted() -> None:
        with results.write(tmp_path / "out", INFO) as writing:
            writing.add("one.png", IMAGE, MASKS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(OutputError, match="not empty"):
        folder(tmp_path)
    folder(tmp_path, "binary_mask", overwrite=True)
    assert (tmp_path / "out" / "masks").is_dir()


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="holds no results"):
        folder(tmp_path, overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_numbers_that_json_does_not_have_become_null() -> None:
    value = {"a": [float("nan"), 1.5], "b": {"c": float("inf")}}
    assert json.loads(results.to_json(value)) == {"a": [None, 1.5], "b": {"c": None}}
