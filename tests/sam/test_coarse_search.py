"""The coarse-to-fine search decodes a part of the grid and finds masks that the full one finds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fastseg
from fastseg import ops
from fastseg.errors import PromptError
from fastseg.geometry import Frame
from fastseg.masks import Masks
from fastseg.sam.coarse_search import Coverage, grid_levels
from fastseg.sam.grid_settings import GridSettings, grid_points
from fastseg.sam.mask_generator import MaskGenerator, Pipeline
from fastseg.testing import tiny_sam_folder

LOOSE = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5, "box_nms_thresh": 1.0}
"""Masks of the tiny model that pass, and no suppression."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[fastseg.Sam]:
    with fastseg.load(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize("per_side", [0, 1, 2, 3, 4, 7, 32])
def test_levels_hold_every_point_of_the_grid_once(per_side):
    levels = grid_levels(per_side)
    np.testing.assert_array_equal(np.sort(np.concatenate(levels)), np.arange(per_side**2))
    if per_side % 4 == 0:
        eighth = per_side**2 // 8
        assert [len(level) for level in levels] == [eighth] * 4 + [4 * eighth]


def one_mask(frame: Frame, box: tuple[int, int, int, int], score: float) -> Masks:
    x0, y0, x1, y1 = box
    pixels = np.zeros((1, *frame.image), bool)
    pixels[0, y0:y1, x0:x1] = True
    score, sure = np.float32([score]), np.float32([1])
    return Masks.from_rle(ops.rle_from_array(pixels), scores=score, stability=sure)


@pytest.mark.parametrize("crop", [None, (8, 16, 72, 80)])
def test_a_mask_covers_its_points_and_an_unsure_one_none_near_its_border(crop):
    frame = Frame((96, 96), 64, crop)
    x0, y0, _, _ = frame.crop_box
    points = grid_points(ops.point_grid(4), frame)
    step = frame.size[0] / 4
    # Half a step and a pixel around the second and third point of the first two rows.
    box = (x0 + int(step) + 2, y0, x0 + int(3 * step) - 2, y0 + int(2 * step) - 2)
    inside = (points >= box[:2]).all(axis=1) & (points < box[2:]).all(axis=1)
    assert inside.sum() == 4
    for score, wanted in ((0.95, inside), (0.94, np.zeros(16, bool))):
        coverage = Coverage(points, frame, 4, sure=0.94)
        coverage.add(one_mask(frame, box, score))
        np.testing.assert_array_equal(coverage.covered, wanted)
    wide = (box[0] - 4, y0, box[2] + 4, box[3] + 4)
    coverage.add(one_mask(frame, wide, 0.5))
    np.testing.assert_array_equal(coverage.covered, inside)


def rows(masks: Masks) -> set[tuple[int, bytes]]:
    """Return the masks as points of the grid with their pixels."""
    return {
        (int(prompt), pixels.tobytes())
        for prompt, pixels in zip(masks.prompt, masks.array(), strict=True)
    }


@pytest.mark.parametrize("layers", [0, 1])
def test_its_masks_are_some_of_the_full_ones_and_cover_the_points_left_out(model, image, layers):
    settings = {"points_per_side": 8, "crop_n_layers": layers, **LOOSE, "crop_nms_thresh": 1.0}
    full = model.everything(image, **settings)
    quick = model.everything(image, search="coarse-to-fine", **settings)
    assert rows(quick) < rows(full)
    assert (full.search, quick.search) == ("full", "coarse-to-fine")
    assert full.points_decoded == 64 * (1 + 4 * layers)
    assert 0 < quick.points_decoded < full.points_decoded
    if layers:
        return
    points = np.floor(grid_points(ops.point_grid(8), Frame(image.shape[:2], 1))).astype(int)
    lost = np.setdiff1d(full.prompt, quick.prompt)
    assert len(lost) > 0
    assert quick.array().any(axis=0)[points[lost, 1], points[lost, 0]].all()


def test_threads_and_batches_change_nothing(model, image, monkeypatch):
    found = []
    for threads, batch in ((1, 64), (2, 3)):
        monkeypatch.setattr(model, "threads", threads)
        settings = {"points_per_side": 8, "points_per_batch": batch, **LOOSE}
        found.append(model.everything(image, search="coarse-to-fine", **settings))
    one, many = found
    assert len(one) > 0
    assert one.points_decoded == many.points_decoded
    np.testing.assert_array_equal(many.array(), one.array())
    np.testing.assert_array_equal(many.prompt, one.prompt)


def test_points_that_are_left_out_count_as_done(model, image):
    told = []
    settings = {"points_per_side": 8, "points_per_batch": 3, **LOOSE}
    model.everything(image, search="coarse-to-fine", progress=lambda *n: told.append(n), **settings)
    done = [one for one, _ in told]
    assert {total for _, total in told} == {64}
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 64)


def test_what_found_the_masks_stays_with_some_of_them(model, image):
    masks = model.everything(image, points_per_side=4, search="coarse-to-fine", **LOOSE)
    assert masks[:1].search == "coarse-to-fine"
    assert masks[:1].points_decoded == masks.points_decoded
    assert model.segment(image, points=[[5, 5]]).search is None


@pytest.mark.parametrize("wrong", ["quick", "", "Full", None, 1, b"full"])
def test_a_search_that_is_not_known_is_refused(model, image, wrong):
    with pytest.raises(PromptError, match='search must be "full" or "coarse-to-fine", not'):
        model.everything(image, search=wrong)


def test_a_grid_of_ones_own_has_no_coarser_one():
    with pytest.raises(PromptError, match=r"points_per_side instead of point_grids"):
        GridSettings(points_per_side=None, point_grids=[[[0.5, 0.5]]], search="coarse-to-fine")


def test_a_device_refuses_the_coarse_search_before_it_reads_the_image(model, image):
    device = object()
    pipeline = Pipeline(None, None, device, manifest=model.manifest, threads=1, max_pixels=None)
    generator = MaskGenerator(pipeline, GridSettings(search="coarse-to-fine"))
    with pytest.raises(PromptError, match=r'runs on the CPU.*search="full"'):
        generator.generate(image, "rgb")
