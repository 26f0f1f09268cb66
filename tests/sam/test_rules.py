"""A model's rules for prompts and masks are data, and are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg import artifacts
from fastseg.artifacts.json_fields import JsonFields
from fastseg.artifacts.manifest import to_json
from fastseg.artifacts.preprocessing import (
    LONGEST_SIDE,
    STRETCH_BILINEAR,
    Preprocessing,
    image_preprocessing,
)
from fastseg.artifacts.rules import (
    BEST,
    CORNERS_FIRST,
    DIRECT,
    PROBABILITIES,
    STABLE,
    TRUNCATED,
    GridDefaults,
    OutputRules,
    PromptRules,
    Rules,
    read_rules,
)
from fastseg.errors import ModelFolderError, PromptError
from fastseg.geometry import Frame
from fastseg.sam.drawing import single_slots
from fastseg.sam.embedding import Embedding
from fastseg.sam.preprocessing import encoder_input
from fastseg.sam.prompts import PromptRequest
from fastseg.testing import tiny_sam_folder

BOXES_ALONE = Rules(
    PromptRules(points=False, masks=False, alternatives=False),
    OutputRules(DIRECT, PROBABILITIES),
)
OF_SAM2 = Rules(
    PromptRules(layout=CORNERS_FIRST),
    OutputRules(DIRECT, single=STABLE, logit_limit=0.05),
    GridDefaults(pred_iou_thresh=0.8),
)
NO_PROMPT = Rules(PromptRules(points=False, boxes=False, masks=False, alternatives=False))
BEST_ALONE = Rules(output=OutputRules(multiple=BEST))
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
BOX = [10, 12, 80, 60]


def folder_with(place: Path, rules: Rules) -> Path:
    """A tiny model whose images fill the square, with these rules."""
    folder = tiny_sam_folder(place)
    manifest = artifacts.read(folder).manifest
    stretched = replace(manifest.image_preprocessing, resize=STRETCH_BILINEAR)
    changed = replace(manifest, preprocessing=stretched, rules=rules)
    (folder / artifacts.MANIFEST_FILE).write_text(to_json(changed))
    return folder


@pytest.fixture(scope="module")
def boxes_alone(tmp_path_factory):
    folder = folder_with(tmp_path_factory.mktemp("models") / "boxes", BOXES_ALONE)
    with fastseg.load(folder, backend="onnxruntime") as model:
        yield model


@pytest.fixture(scope="module")
def of_sam2(tmp_path_factory):
    folder = folder_with(tmp_path_factory.mktemp("models") / "sam2", OF_SAM2)
    with fastseg.load(folder, backend="onnxruntime") as model:
        yield model


def resized(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="the reference is torch")
    found = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[:, None], size, mode="bilinear", align_corners=False
    )
    return found[:, 0].numpy()


@pytest.mark.parametrize("rules", [Rules(), BOXES_ALONE, OF_SAM2, NO_PROMPT, BEST_ALONE])
def test_rules_in_a_manifest_are_read_as_they_were_written(rules):
    assert read_rules(JsonFields(json.loads(json.dumps(rules.as_dict())), "rules")) == rules


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"output": {"resize": "sideways"}}, "sideways.*Upgrade"),
        ({"prompts": {"layout": "none"}}, "none.*Upgrade"),
        ({"prompts": {"points": 1}}, "points is int"),
        ({"output": {"logit_limit": -1}}, "positive"),
        ({"everything": {"pred_iou_thresh": "high"}}, "finite number"),
    ],
)
def test_rules_that_are_not_known_are_refused(document, said):
    with pytest.raises(ModelFolderError, match=said):
        read_rules(JsonFields(document, "rules"))


def test_images_may_have_a_smaller_square_than_prompts_and_masks():
    smaller = Preprocessing(32, (90.0, 91.0, 92.0), (50.0, 51.0, 52.0), patch=8)
    about = replace(smaller, prompt_side=64)
    assert (about.grid, about.mask_side, about.is_of_sam) == (4, 16, False)
    frame = about.frame(IMAGE.shape[:2])
    assert frame == Frame((70, 100), 64)
    np.testing.assert_array_equal(
        encoder_input(IMAGE, frame, about),
        encoder_input(IMAGE, smaller.frame(IMAGE.shape[:2]), smaller),
    )


def test_the_square_of_prompts_is_read_as_it_was_written():
    document = {"side": 512, "mean": [1, 2, 3], "std": [4, 5, 6], "resize": LONGEST_SIDE}
    assert image_preprocessing(JsonFields(document, "preprocessing")).square == 512
    document["prompt_side"] = 1024
    assert image_preprocessing(JsonFields(document, "preprocessing")).square == 1024
    document["prompt_side"] = 1000
    with pytest.raises(ModelFolderError, match="prompt_side must be a multiple of 16"):
        image_preprocessing(JsonFields(document, "preprocessing"))


def test_a_model_of_boxes_refuses_points_masks_and_grids(boxes_alone):
    side = boxes_alone.mask_side
    with pytest.raises(PromptError, match=r"not trained for points.*takes boxes"):
        boxes_alone.segment(IMAGE, points=[[5, 5]])
    with pytest.raises(PromptError, match="not trained for mask_logits"):
        boxes_alone.segment(IMAGE, mask_logits=np.zeros((side, side)))
    with pytest.raises(PromptError, match="takes boxes"):
        boxes_alone.segment(IMAGE)
    with pytest.raises(PromptError, match="takes boxes"):
        boxes_alone.everything(IMAGE)


def test_a_model_without_prompts_takes_the_image_alone(tmp_path):
    side = 32
    with fastseg.load(folder_with(tmp_path / "none", NO_PROMPT), backend="onnxruntime") as model:
        masks = model.segment(IMAGE, names="vessel")
        several = model.segment([IMAGE, IMAGE])
        embedded = model.segment(model.embed(IMAGE))
        for prompt in (
            {"points": [5, 5]},
            {"boxes": BOX},
            {"mask_logits": np.zeros((side, side))},
        ):
            with pytest.raises(PromptError, match=r"not trained for.*takes no prompt"):
                model.segment(IMAGE, **prompt)
        with pytest.raises(PromptError, match="names for 2 prompts, but there are 1"):
            model.segment(IMAGE, names=["a", "b"])
        with pytest.raises(PromptError, match=r"takes no prompt.*segment\(image\)"):
            model.everything(IMAGE)
    assert (len(masks), masks.names, masks.prompt.tolist()) == (1, ("vessel",), [0])
    assert masks.areas[0] > 0
    for found in (*several, embedded):
        np.testing.assert_array_equal(found.array(), masks.array())


@pytest.mark.parametrize("name", ["tiny", "sam-nano"])
def test_the_best_alternative_may_be_the_only_one(name, tmp_path, monkeypatch):
    """On graphs one after the other, and on the native decoder, which runs both stages at once."""
    folder = tiny_sam_folder(tmp_path / "tiny") if name == "tiny" else name
    with fastseg.load(folder, device="cpu") as model:
        points = {"points": [[[5, 5]], [[50, 40]], [[90, 60]]]}
        grid = {
            "points_per_side": 3,
            "pred_iou_thresh": 0,
            "stability_score_thresh": 0,
            "box_nms_thresh": 1.0,
        }
        three, every = model.segment(IMAGE, **points), model.everything(IMAGE, **grid)
        single = model.segment(IMAGE, **points, multimask=False)
        monkeypatch.setattr(model.decoder, "_rules", OutputRules(multiple=BEST))
        best, grown = model.segment(IMAGE, **points), model.everything(IMAGE, **grid)
        alone = model.segment(IMAGE, **points, multimask=False)
    wanted = three.best()
    assert best.prompt.tolist() == [0, 1, 2]
    np.testing.assert_allclose(best.scores, wanted.scores, atol=1e-5)
    np.testing.assert_array_equal(best.array(), wanted.array())
    np.testing.assert_array_equal(alone.array(), single.array())
    assert len({tuple(point) for point in grown.points.tolist()}) == len(grown) > 0
    for point, score in zip(grown.points, grown.scores, strict=True):
        same = (every.points == point).all(axis=1)
        assert score == every.scores[same].max()


def test_probabilities_are_resized_in_one_step_and_one_mask_is_drawn(boxes_alone):
    masks = boxes_alone.segment(IMAGE, boxes=[BOX, BOX])
    assert len(masks) == 2
    probabilities = resized(1 / (1 + np.exp(-np.clip(masks.logits, -80, 80))), IMAGE.shape[:2])
    clear = np.abs(probabilities - 0.5) > 1e-6
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(masks.array()[clear], (probabilities > 0.5)[clear])


def test_logits_are_resized_in_one_step_and_kept_within_their_limit(of_sam2):
    masks = of_sam2.segment(IMAGE, boxes=[BOX])
    assert len(masks) == 3
    assert np.abs(masks.logits).max() <= np.float32(0.05)
    values = resized(masks.logits, IMAGE.shape[:2])
    # Cut logits are of the same sign; where all neighbours are, so is the pixel.
    sure = np.abs(values) >= 0.0499
    np.testing.assert_array_equal(masks.array()[sure], (values > 0)[sure])


def test_the_default_thresholds_of_a_grid_are_the_models_own(of_sam2):
    quiet = {"points_per_side": 4, "stability_score_thresh": 0.0}
    own, named = (
        of_sam2.everything(IMAGE, **quiet),
        of_sam2.everything(IMAGE, pred_iou_thresh=0.8, **quiet),
    )
    np.testing.assert_array_equal(own.scores, named.scores)


def test_corners_come_first_and_padding_always_last_for_sam2():
    request = PromptRequest(points=[[1, 2]], boxes=[3, 4, 5, 6])
    prompts = request.check(Frame((20, 20), 64), mask_side=16, rules=OF_SAM2.prompts)
    assert prompts.labels.tolist() == [2, 3, 1, -1]
    assert prompts.points.tolist() == [[3, 4], [5, 6], [1, 2], [0, 0]]
    box = PromptRequest(boxes=[3, 4, 5, 6])
    assert box.check(Frame((20, 20), 64), mask_side=16, rules=OF_SAM2.prompts).labels.tolist() == [
        2, 3, -1,
    ]  # fmt: skip


def test_coordinates_are_truncated_where_the_model_was_trained_so():
    rules = PromptRules(coordinates=TRUNCATED)
    frame = Frame((30, 100), 64)
    prompts = PromptRequest(boxes=[3, 4, 50, 29]).check(frame, mask_side=16, rules=rules)
    (batch,) = prompts.batches(frame, limit=4)
    assert batch.point_coords.tolist() == [[[1, 2], [32, 18]]]


def test_the_single_mask_is_slot_0_if_it_is_stable_and_else_the_best():
    stable = np.full((4, 4), 3.0, np.float32)
    shaky = np.where(np.eye(4) > 0, 3.0, 0.01).astype(np.float32)
    empty = np.full((4, 4), -3.0, np.float32)
    logits = np.stack([np.stack([first] * 4) for first in (stable, shaky, empty)])
    scores = np.array([[0, 0.1, 0.9, 0.2]] * 3, np.float32)
    assert single_slots(logits, scores).tolist() == [0, 2, 0]


def test_an_embedding_with_maps_of_a_stretched_image_is_saved_whole(tmp_path):
    frame = Frame((10, 20), 64, (1, 2, 9, 9), stretched=True)
    maps = {"high_res_1": np.ones((1, 8, 3), np.float32)}
    embedding = Embedding(np.zeros((256, 16, 16), np.float32), frame, "a" * 64, maps=maps)
    embedding.save(tmp_path / "one.npz")
    found = Embedding.load(tmp_path / "one.npz")
    assert found.frame == frame
    np.testing.assert_array_equal(found.maps["high_res_1"], maps["high_res_1"])
