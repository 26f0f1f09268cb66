"""Everything mode returns what SAM's automatic mask generator returns, on a real photograph.

Both run the embedded network: the reference as torch modules in the ``segment-anything`` package,
ours as the shipped ONNX graphs. Its weights draw local masks with scores on both sides of every
threshold, so that every filter has something to take away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import skimage.data

import fastseg
from fastseg import ops
from tests.helpers.reference_package import segment_anything
from tests.helpers.reference_sam import nano_reference

SETTINGS: dict[str, dict[str, Any]] = {
    "loose": {
        "points_per_side": 14,
        "pred_iou_thresh": 0.6,
        "stability_score_thresh": 0.85,
        "box_nms_thresh": 0.9,
    },
    "crops": {
        "points_per_side": 8,
        "pred_iou_thresh": 0.7,
        "stability_score_thresh": 0.9,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
        "crop_nms_thresh": 0.6,
    },
    "regions": {
        "points_per_side": 12,
        "pred_iou_thresh": 0.75,
        "stability_score_thresh": 0.8,
        "stability_score_offset": 0.7,
        "box_nms_thresh": 0.5,
        "min_mask_region_area": 120,
    },
}
SETTINGS["a few crops"] = {**SETTINGS["crops"], "points_per_side": 4}
SETTINGS["a few regions"] = {**SETTINGS["regions"], "points_per_side": 5}

QUICK = ("a few crops", "a few regions")

FEWEST = {"loose": 50, "crops": 10, "regions": 10, "a few crops": 10, "a few regions": 10}
"""Masks that must survive, or the test shows nothing."""


@pytest.fixture(scope="module")
def coins() -> np.ndarray:
    return np.ascontiguousarray(np.stack([skimage.data.coins()] * 3, axis=-1))


@pytest.fixture(scope="module")
def model() -> Iterator[fastseg.Sam]:
    with fastseg.load("sam-nano") as loaded:
        yield loaded


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SETTINGS],
)
def both(request, model, coins):
    settings = SETTINGS[request.param]
    amg = segment_anything().SamAutomaticMaskGenerator(nano_reference(), **settings)
    expected = amg.generate(coins)
    return expected, model.everything(coins, **settings), FEWEST[request.param]


def test_the_same_masks_come_in_the_same_order(both):
    expected, masks, _ = both
    assert len(masks) == len(expected)
    theirs = np.stack([record["segmentation"] for record in expected])
    turned = (ops.rle_to_array(masks.runs) != theirs).sum(axis=(1, 2))
    # Roundings may turn over a pixel or two of a mask, and 1e-6 of all pixels.
    assert (turned <= np.maximum(2, 1e-4 * masks.areas)).all()
    assert turned.sum() <= 1e-6 * theirs.size


def test_the_records_agree(both):
    expected, masks, _ = both
    for ours, theirs in zip(masks.records(), expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert {type(value) for value in ours.values()} == {type(v) for v in theirs.values()}
        assert ours["crop_box"] == theirs["crop_box"]
        assert ours["point_coords"] == theirs["point_coords"]
        assert np.abs(np.subtract(ours["bbox"], theirs["bbox"])).max() <= 1
        assert ours["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-4)
        # As above: a pixel or two more or less within a threshold.
        pixels = max(1e-3, 2.5 / ours["area"])
        assert ours["stability_score"] == pytest.approx(theirs["stability_score"], abs=pixels)


def test_there_was_enough_to_compare(both):
    expected, _, fewest = both
    assert len(expected) >= fewest


def test_every_filter_has_something_to_take_away(model, coins):
    open_wide = {
        "points_per_side": 4,
        "pred_iou_thresh": -1e9,
        "stability_score_thresh": -1.0,
        "box_nms_thresh": 1.0,
    }
    everything = len(model.everything(coins, **open_wide))
    for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh"):
        for threshold in {SETTINGS[quick].get(name, 0.7) for quick in QUICK}:
            filtered = {**open_wide, name: threshold}
            assert 0 < len(model.everything(coins, **filtered)) < everything
