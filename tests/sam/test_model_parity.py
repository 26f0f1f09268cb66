"""A photograph through the whole pipeline answers as SAM's predictor does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import skimage.data

pytest.importorskip("torch", reason="the reference needs torch")

import fastseg
from tests.helpers.exported_sam import BOTH_SIZES, ExportedSam
from tests.helpers.reference_package import segment_anything

TOLERANCE = 1e-5
"""Relative, of logits; and the share of pixels that may differ in all masks together. A random
network's logits cross zero everywhere, so that here and there a rounding turns a pixel over."""

PROMPTS: dict[str, dict[str, Any]] = {
    "a point": {"points": [[200, 150]]},
    "points of both kinds": {"points": [[200, 150], [230, 80], [60, 40]], "labels": [1, 0, 1]},
    "a box": {"boxes": [100, 60, 260, 200]},
    "a box and points": {
        "points": [[180, 120], [150, 90]],
        "labels": [1, 0],
        "boxes": [90, 50, 270, 210],
    },
    "a padding point": {"points": [[200, 150], [0, 0]], "labels": [1, -1]},
}


@pytest.fixture(scope="module")
def coins() -> np.ndarray:
    return np.ascontiguousarray(np.stack([skimage.data.coins()] * 3, axis=-1))


@pytest.fixture(scope="module", params=BOTH_SIZES)
def exported(request) -> ExportedSam:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def predictor(exported, coins):
    predictor = segment_anything().SamPredictor(exported.reference())
    predictor.set_image(coins)
    return predictor


@pytest.fixture(scope="module")
def model(exported) -> Iterator[fastseg.Sam]:
    with fastseg.load(exported.folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def embedding(model, coins):
    return model.embed(coins)


def expected(predictor, prompt: dict[str, Any], **more: Any) -> tuple[np.ndarray, ...]:
    """Masks, scores and low-resolution logits of the reference for one prompt."""
    points = None if "points" not in prompt else np.array(prompt["points"])
    labels = None if points is None else np.array(prompt.get("labels", [1] * len(points)))
    box = None if "boxes" not in prompt else np.array(prompt["boxes"])
    return predictor.predict(point_coords=points, point_labels=labels, box=box, **more)


def assert_same(masks: fastseg.Masks, reference: tuple[np.ndarray, ...]) -> None:
    _, scores, logits = reference
    assert masks.logits is not None
    assert np.abs(masks.logits - logits).max() <= TOLERANCE * np.abs(logits).max()
    # Scores are IoUs, of the order of 1 even where a random network's happen to be near 0.
    np.testing.assert_allclose(masks.scores, scores, rtol=0, atol=TOLERANCE)


def test_the_embedding_is_the_references(embedding, predictor):
    theirs = predictor.get_image_embedding()[0].numpy()
    assert np.abs(embedding.features - theirs).max() <= TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_gives_the_references_masks(model, embedding, predictor, name, multimask):
    ours = model.segment(embedding, **PROMPTS[name], multimask=multimask)
    assert_same(ours, expected(predictor, PROMPTS[name], multimask_output=multimask))


def test_logits_fed_back_give_the_references_masks(model, embedding, predictor):
    prompt = PROMPTS["a point"]
    _, scores, logits = expected(predictor, prompt)
    best = logits[[scores.argmax()]]
    ours = model.segment(embedding, **prompt, mask_logits=best, multimask=False)
    assert_same(ours, expected(predictor, prompt, mask_input=best, multimask_output=False))


def test_many_prompts_at_once_give_what_each_gives_alone(model, embedding, predictor):
    points = [[[40, 30]], [[200, 150]], [[350, 280]]]
    together = model.segment(embedding, points=points)
    for index, point in enumerate(points):
        assert_same(together[together.prompt == index], expected(predictor, {"points": point}))


def test_the_masks_are_the_references_pixel_by_pixel(model, embedding, predictor):
    wrong = []
    for prompt in PROMPTS.values():
        arrays, _, _ = expected(predictor, prompt)
        wrong.append(model.segment(embedding, **prompt).array() != arrays)
    assert np.mean(wrong) <= TOLERANCE
