"""Names of prompts and of found masks travel with the masks into every form of a result."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

import fastseg
from fastseg import overlay, results
from fastseg.errors import (
    BackendUnavailableError,
    EmbeddingError,
    ImageError,
    MaskError,
    OutputError,
    PromptError,
)
from fastseg.masks import Masks, concatenate
from fastseg.sam.prototypes import UNKNOWN, Prototypes, mask_embeddings
from fastseg.storage.archives import read_archive
from fastseg.timings import Timings
from tests.helpers.made_masks import drawn, rectangles

BOXES = [[10, 10, 50, 50], [60, 20, 110, 80]]
GRID = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def test_every_mask_of_a_prompt_carries_its_name(tiny_model, image) -> None:
    labels = np.array(["liver", "spleen"])  # as detectors have them
    masks = tiny_model.segment(image, boxes=BOXES, names=labels)
    assert masks.names == ("liver",) * 3 + ("spleen",) * 3
    assert {type(name) for name in masks.names} == {str}
    assert masks.best().names == ("liver", "spleen")
    assert len(masks["spleen"]) == 3
    assert masks[masks.prompt == 1][::2].names == ("spleen", "spleen")
    assert [record["name"] for record in masks.best().records()] == ["liver", "spleen"]
    plain = tiny_model.segment(image, boxes=BOXES)
    assert plain.names is None
    assert "name" not in plain.records()[0]
    np.testing.assert_array_equal(plain.array(), masks.array())


def test_one_prompt_takes_one_text(tiny_model, image) -> None:
    masks = tiny_model.segment(image, points=[20, 20], names="a", multimask=False)
    assert masks.names == ("a",)


def test_images_have_names_of_their_own(tiny_model, image) -> None:
    several = {"boxes": [BOXES, BOXES[:1]], "names": [["a", "b"], "c"], "multimask": False}
    assert [m.names for m in tiny_model.segment([image, image], **several)] == [("a", "b"), ("c",)]
    with pytest.raises(PromptError, match="prompts for 1 images"):
        list(tiny_model.stream([image, image], boxes=[BOXES, BOXES], names=[["a", "b"]]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "names for 1 prompts, but there are 2"),
        ([], "names for 0 prompts"),
        ("a", "names for 1 prompts"),
        (["a", 1], r"names\[1\] must be text that shows something, not 1"),
        (["a", None], r"names\[1\]"),
        (["a", " "], r"names\[1\]"),
        (np.array([1, 2]), r"names\[0\]"),
        ({"a": 1}, "names must be a list of texts"),
        (b"ab", "names must be a list of texts"),
        (2, "names must be a list of texts"),
    ],
)
def test_names_that_are_none_are_refused_before_the_encoder_runs(
    tiny_model, image, names, message, monkeypatch
) -> None:
    monkeypatch.setattr(tiny_model, "_encode", lambda _: pytest.fail("it was encoded in vain"))
    with pytest.raises(PromptError, match=message):
        tiny_model.segment(image, boxes=BOXES, names=names)


def test_a_function_names_the_masks_of_everything_mode(tiny_model, image) -> None:
    seen = []

    def by_size(pixels, masks):
        seen.append((pixels, len(masks)))
        return ["large" if area > 300 else "small" for area in masks.areas]

    plain = tiny_model.everything(image, **GRID)
    masks = tiny_model.everything(image[..., ::-1], **GRID, classify=by_size, channels="bgr")
    np.testing.assert_array_equal(seen[0][0], image)
    np.testing.assert_array_equal(masks.array(), plain.array())
    assert masks.names == tuple(by_size(image, plain))
    assert masks.name_scores is None
    scored = tiny_model.everything(
        image, **GRID, classify=lambda _, m: (["a"] * len(m), np.arange(len(m)))
    )
    assert scored.name_scores.tolist() == list(range(len(plain)))
    assert scored[1:].records()[0]["name_score"] == 1.0
    nothing = tiny_model.everything(image, points_per_side=2, pred_iou_thresh=9.0, classify=by_size)
    assert (len(nothing), nothing.names) == (0, ())


@pytest.mark.parametrize(
    "answer",
    [["a"], None, 5, ["a"] * 99, [1] * 9, (["a"] * 9, [1.0]), (["a"] * 9, ["b"] * 9)],
)
def test_what_is_no_name_a_mask_is_refused(tiny_model, image, answer) -> None:
    with pytest.raises(PromptError, match="classify must return a name for each mask"):
        tiny_model.everything(image, **GRID, classify=lambda _, __: answer)


def test_what_cannot_be_called_is_refused(tiny_model, image) -> None:
    with pytest.raises(PromptError, match="classify must be a function"):
        tiny_model.everything(image, **GRID, classify=["a"])
    with pytest.raises(ZeroDivisionError):  # an error of the function is the caller's own
        tiny_model.everything(image, **GRID, classify=lambda _, __: 1 / 0)


def test_names_of_one_prompt_are_not_joined_in_a_label_map(tiny_model, image, tmp_path) -> None:
    masks = tiny_model.segment(image, points=[[[40, 40]]], names=["disc"])
    with pytest.raises(MaskError, match=r"alternatives.*masks\.best\(\)"):
        masks.save(tmp_path / "out.nrrd")
    masks.best().save(tmp_path / "out.nrrd")
    apart = rectangles((40, 40), [(0, 0, 9, 9), (20, 20, 29, 29)]).with_names(["cell", "cell"])
    apart.save(tmp_path / "cells.nrrd")


def test_results_carry_the_names(image, tmp_path) -> None:
    masks = rectangles((96, 128), [(0, 0, 90, 40), (0, 50, 30, 90), (60, 50, 61, 51)])
    masks = masks.with_names(["liver, left", "cyst", "cyst"], [0.5, 0.25, 1])
    contents = results.Contents(table=True)
    with results.write(tmp_path / "out", {}, contents=contents) as folder:
        folder.add("a.png", image, masks)
        folder.add("b.png", image, rectangles((96, 128), [(1, 2, 3, 4)]))
    coco = json.loads((tmp_path / "out" / "masks.json").read_text())
    called = {one["id"]: one["name"] for one in coco["categories"]}
    found = [(called[one["category_id"]], one.get("name")) for one in coco["annotations"]]
    assert found == [("liver, left",) * 2, ("cyst",) * 2, ("cyst",) * 2, ("segment", None)]
    with (tmp_path / "out" / "masks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["liver, left", "cyst", "cyst", ""]
    assert [row["mask"] for row in rows] == [str(one["id"]) for one in coco["annotations"]]
    assert (rows[1]["name_score"], rows[1]["x1"], rows[1]["area"]) == ("0.25", "30", "1271")


def test_masks_of_one_name_are_drawn_in_one_colour_under_it(image) -> None:
    masks = rectangles((96, 128), [(0, 0, 50, 40), (60, 0, 110, 40), (0, 50, 50, 90)])
    ground = np.zeros((96, 128, 3), np.uint8)

    def corners(names):
        drawing = overlay.draw(overlay.Panel(ground, masks.with_names(names)), long_side=512)
        return [drawing.getpixel(at) for at in ((8, 8), (248, 8), (8, 208))]

    first, second, third = corners(["a", "a", "b"])
    assert first == second != third
    wide = overlay.draw(overlay.Panel(ground, masks.with_names(["liver", "b", "c"])), long_side=512)
    other = overlay.draw(
        overlay.Panel(ground, masks.with_names(["lobes", "b", "c"])), long_side=512
    )
    assert np.any(np.asarray(wide) != np.asarray(other))


def test_supervision_takes_the_masks() -> None:
    supervision = pytest.importorskip("supervision", reason="needs the extra supervision")
    masks = rectangles((20, 30), [(0, 0, 3, 3), (5, 5, 28, 8), (1, 9, 2, 9)])
    found = masks.with_names(["a", "b", "a"]).to_supervision()
    assert isinstance(found, supervision.Detections)
    np.testing.assert_array_equal(found.xyxy, supervision.mask_to_xyxy(masks.array()))
    np.testing.assert_array_equal(found.mask, masks.array())
    np.testing.assert_array_equal(found.confidence, masks.scores)
    assert found.class_id.tolist() == [0, 1, 0]
    assert found.data["class_name"].tolist() == ["a", "b", "a"]
    assert len(found[found.class_id == 0]) == 2
    assert masks.to_supervision().class_id is None
    assert len(masks[:0].to_supervision()) == 0


def test_supervision_that_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(BackendUnavailableError, match=r"extra 'supervision'|supervision\]"):
        rectangles((9, 9), [(0, 0, 1, 1)]).to_supervision()


def test_names_are_checked_and_joined() -> None:
    masks = rectangles((20, 20), [(0, 0, 3, 3), (5, 5, 8, 8)])
    with pytest.raises(MaskError, match="2 masks need as many names, not 1"):
        masks.with_names(["a"])
    with pytest.raises(MaskError, match=r"need scores \(2,\)"):
        masks.with_names(["a", "b"], [1.0])
    named = masks.with_names(["a", "b"])
    assert concatenate([named, named[:1]], Timings()).names == ("a", "b", "a")
    assert concatenate([named, masks], Timings()).names is None


@pytest.fixture
def embedding(tiny_model, image):
    """Features that are one direction in the left half and another in the right."""
    made = tiny_model.embed(image)
    features = np.zeros_like(made.features)
    features[0, :, :4], features[1, :, 4:] = 2.0, 3.0
    return fastseg.Embedding(features, made.frame, made.model)


def halves(*boxes) -> Masks:
    return rectangles((96, 128), list(boxes))


def test_the_embedding_of_a_mask_is_the_mean_under_it(embedding) -> None:
    left, right = (0, 0, 63, 95), (64, 10, 127, 20)
    across = (32, 0, 95, 95)
    found = mask_embeddings(embedding, halves(left, right, across))
    np.testing.assert_allclose(found[:, :2], [[1, 0], [0, 1], np.array([2, 3]) / 13**0.5])
    assert not found[:, 2:].any()
    empty = drawn(np.zeros((1, 96, 128), np.bool_))
    assert not mask_embeddings(embedding, empty).any()
    with pytest.raises(MaskError, match="the image has 128 x 96"):
        mask_embeddings(embedding, rectangles((9, 9), [(0, 0, 1, 1)]))


def test_an_image_smaller_than_the_grid_has_embeddings_too(tiny_model) -> None:
    small = tiny_model.embed(np.zeros((3, 4, 3), np.uint8))
    found = mask_embeddings(small, rectangles((3, 4), [(0, 0, 3, 2), (3, 2, 3, 2)]))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


def test_the_nearest_prototype_names_a_mask(tiny_model, embedding, tmp_path) -> None:
    examples = halves((0, 0, 30, 30), (70, 0, 90, 30), (0, 50, 40, 90))
    examples = examples.with_names(["left", "right", "left"])
    made = Prototypes.of_examples(tiny_model, [(embedding, examples)], least_similarity=0.9)
    made.save(tmp_path / "prototypes.npz")
    read = Prototypes.load(tmp_path / "prototypes.npz", tiny_model, least_similarity=0.9)
    assert read.names == ("left", "right")
    empty = drawn(np.zeros((1, 96, 128), np.bool_))
    asked = concatenate([halves((5, 5, 9, 9), (99, 5, 99, 9), (32, 0, 95, 95)), empty], Timings())
    for prototypes in (made, read):
        names, cosines = prototypes.from_embedding(embedding, asked)
        assert names == ["left", "right", UNKNOWN, UNKNOWN]
        np.testing.assert_allclose(cosines, [1, 1, 3 / 13**0.5, 0], rtol=1e-6)


def test_everything_mode_embeds_no_image_twice_for_prototypes(
    tiny_model, image, monkeypatch
) -> None:
    examples = tiny_model.segment(image, boxes=BOXES, names=["a", "b"]).best()
    prototypes = Prototypes.of_examples(tiny_model, [(image, examples)])
    encoded = []
    encode = tiny_model._encode
    monkeypatch.setattr(tiny_model, "_encode", lambda one: encoded.append(one) or encode(one))
    masks = tiny_model.everything(image, **GRID, classify=prototypes)
    assert len(encoded) == 1
    names, cosines = prototypes(image, masks)
    assert masks.names == tuple(names)
    np.testing.assert_array_equal(masks.name_scores, cosines)
    tiny_model.everything(image, **GRID, crop_n_layers=1, classify=prototypes)
    assert len(encoded) == 2 + 5


def test_examples_without_use_are_refused(tiny_model, image, embedding) -> None:
    masks = halves((0, 0, 9, 9))
    with pytest.raises(MaskError, match="need names"):
        Prototypes.of_examples(tiny_model, [(image, masks)])
    with pytest.raises(MaskError, match="no example"):
        Prototypes.of_examples(tiny_model, [])
    empty = drawn(np.zeros((1, 96, 128), np.bool_)).with_names(["a"])
    with pytest.raises(MaskError, match="no pixel"):
        Prototypes.of_examples(tiny_model, [(image, empty)])
    named = masks.with_names(["a"])
    foreign = fastseg.Embedding(embedding.features, embedding.frame, "0" * 64)
    with pytest.raises(EmbeddingError, match="Embed the image with the model"):
        Prototypes.of_examples(tiny_model, [(foreign, named)])
    with pytest.raises(ImageError):
        Prototypes.of_examples(tiny_model, [(np.zeros(3), named)])
    for wrong in ({"least_similarity": "a"}, {"unknown": ""}):
        with pytest.raises(PromptError):
            Prototypes.of_examples(tiny_model, [(image, named)], **wrong)


def test_a_file_of_prototypes_that_is_none_is_refused(tiny_model, embedding, tmp_path) -> None:
    named = halves((0, 0, 9, 9)).with_names(["a"])
    prototypes = Prototypes.of_examples(tiny_model, [(embedding, named)])
    file = tmp_path / "p.npz"
    with pytest.raises(EmbeddingError, match="No such file"):
        Prototypes.load(file, tiny_model)
    prototypes.save(file)
    entries = ("format", "vectors", "names", "model")
    whole = read_archive(file, entries, what="", remedy="", error=EmbeddingError)
    for name, value in (
        ("format", np.int64(2)),
        ("vectors", np.ones((1, 9), np.float32)),
        ("vectors", np.full((1, 256), np.nan, np.float32)),
        ("names", np.array(["a", "a"])),
        ("names", np.array([1])),
        ("model", np.array("0" * 64)),
    ):
        np.savez(tmp_path / "wrong.npz", **{**whole, name: value})
        with pytest.raises(EmbeddingError, match=r"damaged, or newer|of the encoder 000000000000"):
            Prototypes.load(tmp_path / "wrong.npz", tiny_model)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(EmbeddingError, match="Make the prototypes again"):
        Prototypes.load(file, tiny_model)
    with pytest.raises(OutputError):
        prototypes.save(tmp_path)
