"""Any prompts and settings: a mask that depends on its own prompt alone, or a typed error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastseg.errors import PromptError

HEIGHT, WIDTH = 40, 60
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)

anything = st.floats(width=64, allow_nan=True, allow_infinity=True)
inside = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT))
points = st.lists(inside, min_size=1, max_size=3)
some = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def embedding(tiny_model):
    return tiny_model.embed(IMAGE)


@given(st.lists(points, min_size=1, max_size=4))
@some
def test_the_masks_of_a_prompt_are_those_it_has_alone(tiny_model, embedding, prompts):
    together = tiny_model.segment(embedding, points=prompts)
    alone = [tiny_model.segment(embedding, points=[one]) for one in prompts]
    assert together.prompt.tolist() == np.repeat(np.arange(len(prompts)), 3).tolist()
    np.testing.assert_array_equal(together.scores, np.concatenate([one.scores for one in alone]))
    np.testing.assert_array_equal(together.array(), np.concatenate([one.array() for one in alone]))


@given(st.lists(st.tuples(anything, anything, anything, anything), min_size=1, max_size=3))
@some
def test_any_boxes_give_finite_scores_or_a_typed_error(tiny_model, embedding, boxes):
    try:
        masks = tiny_model.segment(embedding, boxes=boxes)
    except PromptError:
        return
    assert len(masks) == 3 * len(boxes)
    assert np.isfinite(masks.scores).all()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "pred_iou_thresh": anything,
            "stability_score_thresh": anything,
            "stability_score_offset": anything,
            "box_nms_thresh": anything,
            "crop_nms_thresh": anything,
            "crop_overlap_ratio": anything,
            "points_per_batch": st.integers(-2, 2**70),
            "min_mask_region_area": st.integers(-2, 2**70),
            "crop_n_layers": st.integers(-1, 3),
        },
    )
)
@some
def test_any_settings_give_masks_in_order_or_a_typed_error(tiny_model, chosen):
    try:
        masks = tiny_model.everything(IMAGE, points_per_side=2, **chosen)
    except PromptError:
        return
    assert np.isfinite(masks.scores).all()
    assert masks.size == (HEIGHT, WIDTH)
    if not chosen.get("crop_n_layers") and not chosen.get("min_mask_region_area"):
        assert (np.diff(masks.scores) <= 0).all()
