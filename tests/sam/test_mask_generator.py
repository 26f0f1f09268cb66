"""The grid, its filters and its settings. Equality with SAM's generator is tested elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict, fields

import numpy as np
import pytest

import fastseg
from fastseg import ops
from fastseg.artifacts.rules import Rules
from fastseg.errors import EmbeddingError, PromptError
from fastseg.sam.grid_settings import SETTINGS, GridSettings
from fastseg.sam.mask_generator import MaskGenerator
from fastseg.testing import tiny_sam_folder

LOOSE = {"pred_iou_thresh": -10.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[fastseg.Sam]:
    with fastseg.load(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def test_masks_come_by_falling_score_and_pass_every_threshold(model, image):
    masks = model.everything(image, points_per_side=6, pred_iou_thresh=0.5)
    assert len(masks) > 0
    assert (np.diff(masks.scores) <= 0).all()
    assert (masks.scores > 0.5).all()
    assert (masks.stability >= 0.95).all()


def test_boxes_that_survive_overlap_no_more_than_allowed(model, image):
    masks = model.everything(image, points_per_side=12, **{**LOOSE, "box_nms_thresh": 0.3})
    kept = ops.box_nms(masks.boxes, masks.scores, 0.3)
    np.testing.assert_array_equal(kept, np.arange(len(masks)))


def test_each_threshold_takes_masks_away(model, image):
    count = len(model.everything(image, points_per_side=6, **LOOSE))
    for stricter in (
        {"pred_iou_thresh": 0.9},
        {"stability_score_thresh": 0.99},
        {"box_nms_thresh": 0.2},
    ):
        assert len(model.everything(image, points_per_side=6, **{**LOOSE, **stricter})) < count


def test_the_batch_size_changes_nothing(model, image):
    one = model.everything(image, points_per_side=5, points_per_batch=1, **LOOSE)
    many = model.everything(image, points_per_side=5, points_per_batch=1024, **LOOSE)
    np.testing.assert_array_equal(one.array(), many.array())
    np.testing.assert_array_equal(one.prompt, many.prompt)


def test_masks_are_the_same_when_binarised_beside_the_decoder(model, image, monkeypatch):
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(model, "threads", threads)
        settings = {"points_per_side": 6, "points_per_batch": 5, "crop_n_layers": 1}
        found.append(model.everything(image, **settings, **LOOSE))
    in_turn, beside = found
    assert len(in_turn) > 0
    np.testing.assert_array_equal(beside.array(), in_turn.array())
    for name in ("prompt", "scores", "stability", "crop_boxes"):
        np.testing.assert_array_equal(getattr(beside, name), getattr(in_turn, name))


def test_a_grid_of_ones_own_is_used(model, image):
    masks = model.everything(
        image, points_per_side=None, point_grids=[np.array([[0.25, 0.5]])], **LOOSE
    )
    assert masks.points is not None
    np.testing.assert_array_equal(np.unique(masks.points, axis=0), [[32, 48]])


def test_an_image_in_which_nothing_passes_has_no_masks(model, image):
    masks = model.everything(image, points_per_side=3, pred_iou_thresh=1e6)
    assert len(masks) == 0
    assert masks.records("coco_rle") == []


def test_records_are_sams_records(model, image):
    masks = model.everything(image, points_per_side=6, crop_n_layers=1, **LOOSE)
    for mode, kind in (("binary_mask", np.ndarray), ("coco_rle", dict), ("uncompressed_rle", dict)):
        for record, mask in zip(masks.records(mode), masks.array(), strict=True):
            assert isinstance(record["segmentation"], kind)
            assert record["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert record["bbox"] == [x, y, columns.max() - x, rows.max() - y]
            assert all(isinstance(side, int) for side in record["bbox"] + record["crop_box"])
            assert isinstance(record["predicted_iou"], float)


def test_crops_find_masks_that_lie_inside_them(model, image):
    masks = model.everything(image, points_per_side=6, crop_n_layers=1, **LOOSE)
    assert masks.crop_boxes is not None
    assert len(np.unique(masks.crop_boxes, axis=0)) > 1
    assert (masks.boxes[:, :2] >= masks.crop_boxes[:, :2]).all()
    assert (masks.boxes[:, 2:] < masks.crop_boxes[:, 2:]).all()


def test_small_regions_are_filled_and_dropped(model, image):
    masks = model.everything(image, points_per_side=6, min_mask_region_area=30, **LOOSE)
    for mode in ("holes", "islands"):
        _, changed = ops.rle_remove_small_regions(masks.runs, 30, mode)
        assert not changed.any()
    np.testing.assert_array_equal(masks.areas, masks.array().sum(axis=(1, 2)))


def test_timings_count_every_stage(model, image):
    timings = model.everything(image, points_per_side=6, **LOOSE).timings
    assert min(timings.preprocess, timings.encode, timings.decode, timings.postprocess) > 0
    assert timings.n_masks > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"points_per_side": None},
        {"points_per_side": 4, "point_grids": [np.zeros((1, 2))]},
        {"points_per_side": 0},
        {"points_per_side": 2.5},
        {"points_per_batch": 0},
        {"crop_n_layers": -1},
        {"crop_overlap_ratio": 1.0},
        {"crop_n_points_downscale_factor": 0},
        {"min_mask_region_area": -1},
        {"pred_iou_thresh": float("nan")},
    ],
)
def test_a_setting_out_of_range_is_named(wrong):
    with pytest.raises(PromptError, match="|".join(wrong)):
        GridSettings(**wrong)


def test_a_grid_is_missing_or_malformed(model, image):
    with pytest.raises(PromptError, match="1 grids"):
        model.everything(
            image, points_per_side=None, point_grids=[np.zeros((1, 2))], crop_n_layers=1
        )
    with pytest.raises(PromptError, match=r"0\.\.1"):
        model.everything(image, points_per_side=None, point_grids=[np.full((1, 2), 7)])


def test_everything_names_each_setting_as_the_settings_do():
    """The signature is spelled out for readers; the settings are the truth."""
    signature = inspect.signature(fastseg.Sam.everything).parameters
    defaults = {name: one.default for name, one in signature.items()}
    others = {"self", "image", "channels", "classify", "embedding", "progress"}
    assert set(defaults) - set(SETTINGS) == others
    own = asdict(Rules().everything)
    for setting in fields(GridSettings):
        assert defaults[setting.name] == (None if setting.name in own else setting.default)
        assert own.get(setting.name, setting.default) == setting.default


def test_every_setting_reaches_the_settings(model, image, monkeypatch):
    given = {name: getattr(GridSettings(), name) for name in SETTINGS}
    given |= {name: 1 for name in SETTINGS if isinstance(given[name], int)}
    given |= {name: 0.125 for name in SETTINGS if isinstance(given[name], float)}
    given |= {"points_per_side": None, "point_grids": [np.zeros((1, 2))] * 2}
    given |= {"max_device_memory": 10**9}
    reached = []

    def generate(self, image, channels, classify):
        reached.append(self._settings)
        return model.segment(image, boxes=np.zeros((0, 4)))

    monkeypatch.setattr(MaskGenerator, "generate", generate)
    model.everything(image, **given)
    assert {name: getattr(reached[0], name) for name in SETTINGS} == given


def test_progress_counts_the_points_of_all_crops(model, image):
    seen: list[tuple[int, int]] = []
    masks = model.everything(
        image,
        points_per_side=5,
        points_per_batch=10,
        crop_n_layers=1,
        progress=lambda done, total: seen.append((done, total)),
        **LOOSE,
    )
    alone = model.everything(image, points_per_side=5, crop_n_layers=1, **LOOSE)
    assert seen[0] == (0, 125)
    assert seen[-1] == (125, 125)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    np.testing.assert_array_equal(masks.array(), alone.array())


def test_an_error_of_progress_ends_the_call(model, image):
    def stop(done, total):
        if done:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        model.everything(image, points_per_side=5, points_per_batch=5, progress=stop, **LOOSE)
    assert len(model.everything(image, points_per_side=5, **LOOSE))


def test_an_embedding_is_not_made_again(model, image):
    embedding = model.embed(image)
    for layers in (0, 1):
        settings = {"points_per_side": 5, "crop_n_layers": layers, **LOOSE}
        given = model.everything(image, embedding=embedding, **settings)
        made = model.everything(image, **settings)
        np.testing.assert_array_equal(given.array(), made.array())
        assert (given.timings.encode == 0) == (layers == 0)
    other = model.embed(np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(EmbeddingError, match="whole image"):
        model.everything(image, embedding=other, points_per_side=2)
