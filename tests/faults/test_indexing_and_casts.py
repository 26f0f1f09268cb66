"""Indexing follows NumPy, and no number is cut, read from text or taken from under a mask."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

import fastseg
from fastseg import ops
from fastseg.echo.cardiac_cycle import extremes, sinusoid_r2
from fastseg.echo.frames import choose_view
from fastseg.errors import (
    FastsegError,
    ImageError,
    MaskError,
    MeasurementError,
    PromptError,
)
from fastseg.inputs.numbers import real_array, real_number, whole_number
from fastseg.masks import Masks
from fastseg.measure import measure
from fastseg.sam.grid_settings import GridSettings
from fastseg.sam.prompts import PromptRequest

FRAME = fastseg.Frame((60, 80), 64)


@pytest.fixture
def masks():
    """Four masks of 1 to 4 pixels."""
    pixels = np.zeros((4, 6, 6), np.bool_)
    for index in range(4):
        pixels[index, 0, : index + 1] = True
    flat = np.zeros(4, np.float32)
    return Masks.from_rle(ops.rle_from_array(pixels), scores=flat, stability=flat)


@pytest.mark.parametrize(
    "index",
    [
        [True, False, True, False],
        np.array([True, False, True, False]),
        [np.True_, np.False_, np.True_, np.False_],
        (np.arange(4) % 2 == 0).tolist(),
        [0, 2],
        [-4, -2],
        slice(None, None, 2),
    ],
)
def test_the_same_masks_as_numpy_takes(masks, index):
    assert masks[index].areas.tolist() == np.arange(1, 5)[index].tolist() == [1, 3]


def test_no_booleans_and_no_positions_take_no_masks(masks):
    assert (len(masks[[False] * 4]), len(masks[[]])) == (0, 0)


@pytest.mark.parametrize("index", [[True, False], [0.0, 1.0], [9], ["a"], 1.5])
def test_what_numpy_refuses_is_refused(masks, index):
    with pytest.raises(IndexError):
        masks[index]


@pytest.mark.parametrize("index", [None, True, [[0, 1]], np.ma.masked_array([0, 1], [0, 1])])
def test_an_index_that_is_no_row_is_named(masks, index):
    with pytest.raises(MaskError, match="index"):
        masks[index]


BOX = [[10.0, 10.0, 40.0, 40.0]]
CUT = {
    "complex": np.array(BOX) + 9j,
    "complex list": [[10 + 9j, 10, 40, 40]],
    "masked": np.ma.masked_array(BOX, mask=[[0, 0, 1, 0]]),
    "masked in a list": [np.ma.masked_array(BOX[0], mask=[0, 0, 1, 0])],
    "text": [["10", "10", "40", "40"]],
    "bytes": np.array(BOX).astype("S"),
    "text among objects": np.array([[10, 10, "40", 40]], object),
    "dates": np.array(BOX).astype("datetime64[s]"),
    "too large": [[0, 0, 10**400, 40]],
    "none": [[0, 0, None, 40]],
    "nan": [[0, 0, np.nan, 40]],
}


@pytest.mark.parametrize("boxes", CUT.values(), ids=CUT)
def test_boxes_are_not_cut(boxes):
    with pytest.raises(PromptError, match="boxes"):
        PromptRequest(boxes=boxes).check(FRAME, mask_side=16)


@pytest.mark.parametrize("name", CUT)
def test_points_and_labels_are_not_cut(name):
    given = CUT[name]
    points = [row[::2] for row in given] if isinstance(given, list) else given[:, ::2]
    with pytest.raises(PromptError, match="points"):
        PromptRequest(points=points).check(FRAME, mask_side=16)
    with pytest.raises(PromptError, match="label"):
        PromptRequest([[5, 5], [6, 6]], labels=points[0]).check(FRAME, mask_side=16)


@pytest.mark.parametrize(
    "boxes", [np.ma.masked_array(BOX), [[Decimal(10), 10, 40, 40]], np.array(BOX, np.float16)]
)
def test_numbers_in_other_clothes_are_numbers(boxes):
    prompts = PromptRequest(boxes=boxes).check(FRAME, mask_side=16)
    assert prompts.points.tolist() == [[10, 10], [40, 40]]


def test_a_ragged_list_with_a_number_in_it_is_named():
    with pytest.raises(PromptError, match="points of a prompt"):
        PromptRequest(points=[[[1, 2]], 3]).check(FRAME, mask_side=16)


OTHERS = {
    "measure": (MeasurementError, lambda it: measure(np.ones((1, 5, 5), bool), cm_per_pixel=it)),
    "view": (ImageError, lambda it: choose_view((99, 99), cm_per_pixel=it)),
    "beat": (MeasurementError, lambda it: extremes([[1.0, 2.0]], frames_per_beat=it)),
    "pred_iou_thresh": (PromptError, lambda it: GridSettings(pred_iou_thresh=it)),
    "box_nms_thresh": (PromptError, lambda it: GridSettings(box_nms_thresh=it)),
    "crop_nms_thresh": (PromptError, lambda it: GridSettings(crop_nms_thresh=it)),
    "crop_overlap_ratio": (PromptError, lambda it: GridSettings(crop_overlap_ratio=it)),
    "stability_score_offset": (PromptError, lambda it: GridSettings(stability_score_offset=it)),
}


@pytest.mark.parametrize("number", [np.nan, np.inf, 1j, "0.05", 10**400, [0.5], "x", b"1", {}])
@pytest.mark.parametrize("where", OTHERS)
def test_a_scale_or_setting_is_a_finite_number(where, number):
    error, call = OTHERS[where]
    with pytest.raises(error, match=r"cm_per_pixel|frames_per_beat|" + where):
        call(number)


@pytest.mark.parametrize("number", [1.5, "2", None, np.nan, 2**64, -1, [3]])
@pytest.mark.parametrize("where", ["points_per_batch", "crop_n_layers", "min_mask_region_area"])
def test_a_count_is_an_integer(where, number):
    with pytest.raises(PromptError, match=where):
        GridSettings(**{where: number})


def test_other_arrays_are_not_cut():
    masked = np.ma.masked_array(np.ones((1, 5, 5), bool), mask=np.eye(5, dtype=bool)[None])
    with pytest.raises(MaskError, match="masked"):
        measure(masked, cm_per_pixel=0.1)
    with pytest.raises(ImageError, match="masked"):
        fastseg.read_image(np.ma.masked_array(np.ones((5, 5), np.uint8), mask=np.eye(5)))
    with pytest.raises(MaskError, match="real numbers"):
        sinusoid_r2([1j, 2, 3, 4])
    with pytest.raises(PromptError, match=r"point_grids\[0\]"):
        GridSettings(points_per_side=None, point_grids=[np.array([[0.5j, 0.5]])]).grid(0)
    with pytest.raises(PromptError, match="real numbers"):
        FRAME.to_model([[1j, 2]])


def test_the_error_is_the_caller_s():
    for error in (PromptError, MaskError):
        for call in (
            lambda error=error: real_array([1j], "it", error),
            lambda error=error: real_number(None, "it", error),
            lambda error=error: whole_number(0.5, "it", error, least=0),
        ):
            with pytest.raises(error, match="it must") as caught:
                call()
            assert isinstance(caught.value, FastsegError)
