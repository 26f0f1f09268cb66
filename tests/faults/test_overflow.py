"""A finite number that a network or a measurement cannot hold is refused: no result is NaN."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastseg
from fastseg.echo.frames import choose_view
from fastseg.errors import ImageError, MeasurementError, PromptError
from fastseg.measure import measure
from fastseg.sam.grid_settings import GridSettings
from fastseg.sam.prompts import LARGEST_COORDINATE, LARGEST_LOGIT

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino", "native"])
def model(request):
    pytest.importorskip("onnxruntime", reason="the encoder of every backend needs a runtime")
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    with fastseg.load("sam-nano", backend=request.param) as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("far", [1e39, 1e300, 2.0**24 + 1])
@pytest.mark.parametrize("corner", [0, 1, 2, 3])
def test_a_box_that_float32_cannot_hold_is_refused(model, far, corner):
    box = [10.0, 10.0, 50.0, 50.0]
    box[corner] = far if corner > 1 else -far
    with pytest.raises(PromptError, match=r"beyond 16777216 pixels.*Clip"):
        model.segment(IMAGE, boxes=[box])


def test_a_box_at_the_bound_has_finite_scores(model):
    bound = LARGEST_COORDINATE
    masks = model.segment(IMAGE, boxes=[[-bound, -bound, bound, bound], [0, 0, 80, bound]])
    assert np.isfinite(masks.scores).all()
    assert not np.isnan(masks.logits).any()


def test_mask_logits_up_to_the_bound_have_finite_scores(model):
    side = model.mask_side
    logits = np.full((1, side, side), LARGEST_LOGIT)
    logits[:, : side // 2] *= -1
    masks = model.segment(IMAGE, points=[[40, 30]], mask_logits=logits)
    assert np.isfinite(masks.scores).all()
    for large in (1e10, 1e39, 1e300):
        with pytest.raises(PromptError, match="plus and minus 1e"):
            model.segment(IMAGE, mask_logits=np.full((side, side), large))


@pytest.mark.parametrize("name", ["pred_iou_thresh", "stability_score_thresh", "box_nms_thresh"])
def test_a_threshold_that_float32_cannot_hold_is_refused(name):
    with pytest.raises(PromptError, match=rf"{name} must lie within.*float32"):
        GridSettings(**{name: 1e39})


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-7, 1e300])
def test_a_scale_whose_areas_overflow_is_refused(scale):
    with pytest.raises(MeasurementError, match="cm_per_pixel must be between"):
        measure(np.ones((1, 5, 5), bool), cm_per_pixel=scale)
    with pytest.raises(ImageError, match="Give the size of one pixel") as caught:
        choose_view((240, 320), cm_per_pixel=scale)
    assert len(str(caught.value)) < 200
