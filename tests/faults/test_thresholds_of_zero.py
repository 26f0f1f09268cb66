"""A threshold of 0 or below filters nothing in everything mode, as in SAM's mask generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastseg
from fastseg import ops
from fastseg.sam.grid_settings import GridSettings
from fastseg.sam.two_stage_decoder import TwoStageDecoder

pytest.importorskip("onnxruntime", reason="the embedded model runs in onnxruntime")

NOISE = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)

STABLE = {"stability_score_thresh": 0.0}

SETTINGS = [
    {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
    {"pred_iou_thresh": -1.0, "stability_score_thresh": -1.0},
    {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.9},
    {"pred_iou_thresh": 0.8, "stability_score_thresh": 0.0},
]


@pytest.fixture(scope="module")
def nano():
    with fastseg.load("sam-nano", backend="onnxruntime") as model:
        yield model


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_as_many_masks_as_the_reference(nano, settings):
    pytest.importorskip("torch", reason="the reference package needs torch")
    from tests.helpers.reference_package import segment_anything
    from tests.helpers.reference_sam import nano_reference

    generator = segment_anything().SamAutomaticMaskGenerator(
        nano_reference(), points_per_side=6, **settings
    )
    expected = sorted(record["predicted_iou"] for record in generator.generate(NOISE))
    scores = sorted(nano.everything(NOISE, points_per_side=6, **settings).scores.tolist())
    assert len(scores) == len(expected)
    assert scores == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def doubting(monkeypatch, nano):
    """Lower every predicted IoU by 0.2, which makes some negative."""
    tokens = TwoStageDecoder.tokens

    def lowered(self, *args):
        found = tokens(self, *args)
        return replace(found, iou_predictions=found.iou_predictions - np.float32(0.2))

    monkeypatch.setattr(TwoStageDecoder, "tokens", lowered)
    return nano


def test_masks_that_expect_less_than_nothing_stay(doubting):
    zero = doubting.everything(NOISE, points_per_side=4, **SETTINGS[0])
    assert (zero.scores < 0).any()
    below = doubting.everything(NOISE, points_per_side=4, **SETTINGS[1])
    assert np.array_equal(zero.scores, below.scores)
    above = doubting.everything(NOISE, points_per_side=4, pred_iou_thresh=1e-6, **STABLE)
    assert len(above) < len(zero)
    assert above.scores.min() > 0


def test_no_bound_from_zero_down():
    for threshold, bound in ((0.0, -np.inf), (-0.5, -np.inf), (1e-9, 1e-9), (0.88, 0.88)):
        assert GridSettings(pred_iou_thresh=threshold).least_iou == bound


@pytest.fixture
def empty(monkeypatch, tiny_model):
    """Let the first mask of each batch of ``tiny_model`` be empty."""
    binarise = ops.binarise

    def emptied(logits, *args, chosen, **more):
        logits = logits.copy()
        logits[chosen[0]] = -1e9
        return binarise(logits, *args, chosen=chosen, **more)

    monkeypatch.setattr(ops, "binarise", emptied)
    return tiny_model


@pytest.mark.parametrize(("threshold", "stays"), [(0.0, True), (-1.0, True), (1e-6, False)])
def test_an_empty_mask_stays_where_nothing_is_filtered(empty, threshold, stays):
    loose = {"points_per_side": 2, "pred_iou_thresh": -1.0, "box_nms_thresh": 1.0}
    masks = empty.everything(NOISE, stability_score_thresh=threshold, **loose)
    assert (masks.areas == 0).any() == stays
