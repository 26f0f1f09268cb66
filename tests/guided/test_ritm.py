"""RITM's calls: the masks of its predictor, click by click, and the prompts that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg import artifacts
from fastseg.errors import EmbeddingError, ImageError, ParityError, PromptError
from fastseg.export.fp16.convert import add_fp16
from fastseg.guided import image as guided_image
from fastseg.masks import Masks
from fastseg.testing import tiny_sam_folder
from fastseg.validation.comparison import Limits
from fastseg.validation.synthetic import scenes
from tests.helpers.reference_ritm import Predictor
from tests.helpers.tiny_ritm import ZOOM, reference

CLICKS = [(40, 30, 1), (100, 60, 1), (20, 80, 0), (150, 10, 1), (5, 100, 1), (77, 77, 0)]
"""x, y and label."""


@pytest.fixture(scope="module")
def model(tiny_ritm) -> Any:
    with fastseg.load(tiny_ritm, backend="onnxruntime") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return scenes([11])[0][::4, ::4].copy()


def prompt(count: int, clicks=CLICKS) -> dict[str, np.ndarray]:
    points = np.array([[x, y] for x, y, _ in clicks[:count]], np.float64)
    return {"points": points, "labels": np.array([label for *_, label in clicks[:count]])}


def arrays(masks: Masks) -> np.ndarray:
    return masks.array()


def test_every_click_gives_the_probabilities_of_the_plain_predictor(model, image):
    theirs = Predictor(reference(), image, {"side": ZOOM.side, "least": ZOOM.least})
    ready, seen, areas = model.embed(image), set(), set()
    for count, (x, y, label) in enumerate(CLICKS, start=1):
        with torch.inference_mode():
            expected = theirs.click(y, x, label == 1)
        masks = model.segment(ready, **prompt(count))
        points = tuple((float(x), float(y), label) for x, y, label in CLICKS[:count])
        found = ready.memory.longest(points)[1].probabilities
        assert np.abs(found - expected).max() <= 1e-4
        mask = expected > 0.49
        assert np.mean(arrays(masks)[0] != mask) <= 2e-4
        seen.add(theirs.roi)
        areas.add(int(mask.sum()))
    assert len(seen) > 2  # the region was chosen and moved
    assert len(areas) > 3


def test_what_an_image_remembers_changes_no_mask(model, image):
    ready = model.embed(image)
    grown = [model.segment(ready, **prompt(count)) for count in range(1, len(CLICKS) + 1)]
    for count, masks in enumerate(grown, start=1):
        fresh = model.segment(image, **prompt(count))
        assert np.array_equal(arrays(fresh), arrays(masks))
        assert fresh.scores.tolist() == masks.scores.tolist()


def test_an_image_saves_the_runs_of_points_it_knows(model, image, monkeypatch):
    runs, run = [], model._graphs.run
    monkeypatch.setattr(model._graphs, "run", lambda *given: runs.append(1) or run(*given))
    ready = model.embed(image)
    counts = []
    for count in (3, 4, 2, 4):
        before = len(runs)
        model.segment(ready, **prompt(count))
        counts.append(len(runs) - before)
    assert counts == [3, 1, 0, 0]


def test_an_image_forgets_the_oldest_masks(model, image, monkeypatch):
    monkeypatch.setattr(guided_image, "MEMORY_BYTES", 2 * 4 * image.shape[0] * image.shape[1])
    ready = model.embed(image)
    before = model.segment(ready, **prompt(4))
    assert len(ready.memory) == 2
    assert np.array_equal(arrays(model.segment(ready, **prompt(4))), arrays(before))
    monkeypatch.setattr(guided_image, "MEMORY_BYTES", 0)
    assert np.array_equal(arrays(model.segment(model.embed(image), **prompt(4))), arrays(before))


def test_the_order_of_points_matters_and_prompts_do_not_touch_each_other(model, image):
    turned = CLICKS[:4][::-1]
    one, other = prompt(4), prompt(4, turned)
    both = model.segment(
        image, points=[one["points"], other["points"]], labels=[one["labels"], other["labels"]]
    )
    first, second = model.segment(image, **one), model.segment(image, **other)
    assert np.array_equal(arrays(both), np.concatenate([arrays(first), arrays(second)]))
    assert not np.array_equal(arrays(first), arrays(second))
    assert both.prompt.tolist() == [0, 1]


def test_a_mirrored_image_with_mirrored_points_gives_the_mirrored_mask(model, image):
    width = image.shape[1]
    mirrored = [(width - 1 - x, y, label) for x, y, label in CLICKS[:2]]
    masks = model.segment(image, **prompt(1))
    other = model.segment(image[:, ::-1].copy(), **prompt(1, mirrored))
    assert 0 < masks.areas[0] < image[..., 0].size
    assert np.mean(arrays(masks) != arrays(other)[:, :, ::-1]) <= 1e-4


def test_padding_points_are_no_points_and_float_points_count(model, image):
    points = prompt(2)["points"]
    padded = model.segment(image, points=[[*points, [0, 0]]], labels=[[1, 1, -1]])
    assert np.array_equal(arrays(padded), arrays(model.segment(image, points=points)))
    shifted = model.segment(image, points=points + 0.4)
    assert len(shifted) == 1
    with pytest.raises(PromptError, match="no point but padding"):
        model.segment(image, points=[[3, 4]], labels=[-1])


def test_results_have_the_form_of_sams(model, image):
    masks = model.segment(image, points=[[[40, 30]], [[100, 60]]], names=["a", "b"])
    assert masks.names == ("a", "b")
    assert masks.logits is None
    assert ((masks.scores >= 0) & (masks.scores <= 1)).all()
    assert masks.timings.n_masks == 2
    assert masks.timings.backend == "onnxruntime"
    assert len(masks.best()) == 2
    assert len(model.segment(image, points=np.zeros((0, 1, 2)))) == 0


def test_many_images_come_in_order(model, image):
    images, points = [image, image[:, ::-1].copy()], [[[40, 30]], [[100, 60]]]
    found = model.segment(images, points=points)
    for masks, one, at in zip(found, images, points, strict=True):
        assert np.array_equal(arrays(masks), arrays(model.segment(one, points=at)))
    errors = list(model.stream([image, "absent.png"], points=[points[0]] * 2, on_error="yield"))
    assert isinstance(errors[0], Masks)
    assert isinstance(errors[1], ImageError)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"boxes": [0, 0, 9, 9]}, "boxes.*It takes points"),
        ({"points": [[3, 4]], "mask_logits": np.zeros((4, 4))}, "mask_logits.*It takes points"),
        ({}, "needs points"),
        ({"points": [[500, 4]]}, "outside the image"),
        ({"points": [[3, 4]], "labels": [2]}, "label 2"),
        ({"points": [[3, 4]], "multimask": 3}, "multimask"),
    ],
)
def test_a_prompt_of_another_kind_is_refused_with_those_it_takes(model, image, given, says):
    with pytest.raises(PromptError, match=says):
        model.segment(image, **given)


def test_an_image_of_another_model_is_refused(model, image, tmp_path):
    sam = fastseg.load(tiny_sam_folder(tmp_path / "tiny-sam"))
    with pytest.raises(EmbeddingError, match="another kind"):
        model.segment(sam.embed(image), points=[[3, 4]])
    ready = model.embed(image)
    object.__setattr__(ready, "model", "0" * 64)
    with pytest.raises(EmbeddingError, match="not for"):
        model.segment(ready, points=[[3, 4]])


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 3)])
def test_small_images_are_segmented_too(model, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    corner = [size[1], size[0]]
    masks = model.segment(pixels, points=[[0, 0], corner, [0, 0]], labels=[1, 1, 0])
    assert masks.size == size


def test_everything_keeps_the_stable_masks_of_a_grid(model, image):
    told = []
    settings = {"points_per_side": 3, "box_nms_thresh": 1.0}
    every = model.everything(
        image, stability_score_thresh=0.0, progress=lambda *n: told.append(n), **settings
    )
    assert told[0] == (0, 9)
    assert told[-1] == (9, 9)
    assert every.points_decoded == 9
    assert (np.diff(every.scores) <= 0).all()
    alone = model.segment(image, points=every.points[:, None])
    assert np.array_equal(arrays(alone), arrays(every))
    assert alone.stability.tolist() == every.stability.tolist()
    least = float(np.median(every.stability))
    some = model.everything(image, stability_score_thresh=least, **settings)
    assert some.stability.tolist() == [one for one in every.stability if one >= least]
    named = model.everything(
        image,
        stability_score_thresh=least,
        classify=lambda pixels, found: ["x"] * len(found),
        **settings,
    )
    assert named.names == ("x",) * len(some)


@pytest.mark.parametrize(
    ("setting", "says"),
    [({"crop_n_layers": 1}, "own size"), ({"search": "coarse-to-fine"}, "predicted IoU")],
)
def test_everything_refuses_what_has_no_meaning_here(model, image, setting, says):
    with pytest.raises(PromptError, match=says):
        model.everything(image, **setting)


def test_everything_takes_a_prepared_image_of_the_same_image_alone(model, image):
    ready, settings = model.embed(image), {"points_per_side": 2, "stability_score_thresh": 0.0}
    found = model.everything(image, embedding=ready, **settings)
    assert np.array_equal(arrays(found), arrays(model.everything(image, **settings)))
    with pytest.raises(EmbeddingError, match="not of the image"):
        model.everything(image[:50], embedding=ready, **settings)


def test_the_reason_for_float32_promises_nothing_that_was_not_measured(tiny_ritm):
    with fastseg.load(tiny_ritm) as free:
        assert free.precision == "fp32"
        assert "not calibrated" in free.reason


def test_the_rules_are_data_of_the_folder(tiny_ritm):
    manifest = artifacts.read(tiny_ritm).manifest
    assert manifest.family == "ritm"
    assert manifest.point_preprocessing.zoom == ZOOM
    assert manifest.point_preprocessing.threshold == 0.49
    assert manifest.sam_rules.prompts.taken == "points"


def test_openvino_draws_the_same_masks(model, tiny_ritm, image):
    pytest.importorskip("openvino", reason="openvino is not installed")
    with fastseg.load(tiny_ritm, backend="openvino") as other:
        found = other.segment(image, **prompt(4))
    assert np.mean(arrays(found) != arrays(model.segment(image, **prompt(4)))) <= 2e-4


@pytest.mark.slow
def test_mixed_precision_outside_the_limits_is_refused_by_name(tiny_ritm, image, tmp_path):
    strict = Limits(max_relative=1e-9)
    with pytest.raises(ParityError, match="tiny-ritm in fp16"):
        add_fp16(tiny_ritm, tmp_path / "fp16", images=[image], limits=strict)
    assert not (tmp_path / "fp16").exists()


@pytest.mark.slow
def test_mixed_precision_that_passes_its_gate_is_kept_with_its_comparison(
    tiny_ritm, image, tmp_path
):
    found = add_fp16(tiny_ritm, tmp_path / "fp16", images=[image])
    assert found.of_masks.mask_iou_mean >= 0.99
    stored = artifacts.read(tmp_path / "fp16").manifest.graphs["network.fp16"]
    assert stored.comparison["limits"]["mean_iou"] == 0.99
