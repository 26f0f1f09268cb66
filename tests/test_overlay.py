"""Promises of ``fastseg.overlay``."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.imaging.palette import colours
from fastseg.overlay import Panel, compose, draw, montage, with_square_pixels
from tests.helpers.made_masks import drawn, rectangles

GREY = np.full((60, 80, 3), 128, np.uint8)
BOXES = [(10, 10, 29, 29), (40, 20, 69, 49)]


def test_masks_are_coloured_and_the_rest_stays_grey() -> None:
    drawing = np.asarray(draw(Panel(GREY, rectangles((60, 80), BOXES)), numbers=False))
    assert drawing.shape == (240, 320, 3), "enlarged four times"
    spread = drawing.max(axis=2).astype(int) - drawing.min(axis=2)
    assert (spread[60:100, 60:100] > 20).all()
    assert (spread[100:180, 180:260] > 20).all()
    assert not spread[:30].any()
    assert not spread[:, 300:].any()


def test_two_masks_have_two_colours() -> None:
    drawing = np.asarray(draw(Panel(GREY, rectangles((60, 80), BOXES)), numbers=False))
    assert np.abs(drawing[80, 80].astype(int) - drawing[140, 220]).max() > 40


def test_an_outline_is_a_thin_line_inside_the_mask() -> None:
    drawing = np.asarray(draw(Panel(GREY, rectangles((60, 80), BOXES)), numbers=False)).astype(int)
    row = drawing[140]  # through the middle of the second mask, which covers 160..279
    inside, strong = row[220], np.abs(row - row[220]).max(axis=1) > 30
    assert strong[160:163].any()
    assert not strong[170:270].any(), f"only the border differs from {inside}"


def test_a_mask_inside_another_is_drawn_over_it() -> None:
    small_first = rectangles((60, 80), [(30, 20, 49, 39), (0, 0, 79, 59)])
    drawing = np.asarray(draw(Panel(GREY, small_first), numbers=False)).astype(int)
    assert np.abs(drawing[120, 160] - drawing[20, 20]).max() > 20


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 40)])
def test_any_size_of_image_can_be_drawn(size: tuple[int, int]) -> None:
    height, width = size
    masks = rectangles(size, [(0, 0, width - 1, height - 1)])
    drawing = draw(Panel(np.zeros((*size, 3), np.uint8), masks), long_side=400)
    assert max(drawing.size) <= 400
    assert min(drawing.size) >= 1


@pytest.mark.parametrize("boxes", [[], [(5, 5, 4, 4)]])
def test_no_mask_and_an_empty_mask_leave_the_image_as_it_is(boxes: list) -> None:
    plain = np.asarray(draw(Panel(GREY, rectangles((60, 80), boxes)), numbers=False))
    assert (plain == plain[0, 0]).all()


def test_a_number_is_written_where_there_is_room() -> None:
    masks = rectangles((60, 80), [(10, 10, 29, 29), (60, 50, 61, 51)])
    bare = np.asarray(draw(Panel(GREY, masks), numbers=False)).astype(int)
    numbered = np.asarray(draw(Panel(GREY, masks))).astype(int)
    changed = np.abs(bare - numbered).max(axis=2) > 0
    assert changed[70:90, 70:90].any()
    assert not changed[190:, 230:].any()


def test_a_number_stands_in_the_main_part_of_its_mask() -> None:
    parts = rectangles((60, 80), [(5, 5, 30, 30), (74, 50, 78, 55)]).array()
    masks = drawn(parts.any(axis=0, keepdims=True))
    bare = np.asarray(draw(Panel(GREY, masks), numbers=False)).astype(int)
    changed = np.abs(bare - np.asarray(draw(Panel(GREY, masks)))).max(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert 4 * 5 <= columns.min() <= columns.max() <= 4 * 31
    assert 4 * 5 <= rows.min() <= rows.max() <= 4 * 31


def test_prompts_are_drawn_in_the_colour_of_ink() -> None:
    panel = Panel(GREY, rectangles((60, 80), []), prompt_boxes=[(10, 10, 30, 30)])
    assert (np.asarray(draw(panel))[40, 80] > 220).all()
    panel = Panel(GREY, rectangles((60, 80), []), prompt_points=[(40, 30)])
    assert (np.asarray(draw(panel))[120, 160] > 220).all()


def test_panels_stand_side_by_side_above_the_legend() -> None:
    panel = Panel(GREY, rectangles((60, 80), BOXES), title="a title")
    one = compose([panel], "a legend")
    two = compose([panel, panel], "a legend that is far too long for one line " * 10)
    assert two.width > 2 * 320
    assert two.height == one.height > 240


def test_colours_next_to_each_other_are_far_apart() -> None:
    palette = colours(64).astype(int)
    assert len(np.unique(palette, axis=0)) == 64
    assert np.abs(np.diff(palette, axis=0)).max(axis=1).min() > 50


def test_pixels_that_are_not_square_are_stretched() -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    masks = rectangles((20, 30), [(5, 4, 14, 8), (20, 10, 24, 19)])
    panel = Panel(pixels, masks, prompt_boxes=[(5, 4, 15, 9)], spacing=(3.0, 1.0))
    square = with_square_pixels(panel)
    assert square.image.shape == (60, 30, 3)
    np.testing.assert_array_equal(square.masks.array(), masks.array().repeat(3, axis=1))
    assert list(square.prompt_boxes) == [(5, 12, 15, 27)]
    drawing = draw(panel)
    assert drawing.height == 2 * drawing.width
    wide = with_square_pixels(Panel(pixels, masks, spacing=(1.0, 2.0)))
    assert wide.image.shape == (20, 60, 3)
    assert with_square_pixels(Panel(pixels, masks, spacing=(2.0, 2.0))).image is pixels


def test_a_montage_has_a_cell_for_each_panel() -> None:
    pixels = np.full((20, 30, 3), 90, np.uint8)
    panels = [
        Panel(pixels, rectangles((20, 30), [(5, 4, 14, 8)]), f"slice {number}")
        for number in range(5)
    ]
    sheet = montage(panels, "five slices", long_side=600)
    levels = np.asarray(sheet)
    # Dimmed to 0.8 of 90, but for the masks: the ground of five cells, and none of a sixth.
    ground = (levels == 72).all(axis=-1).sum()
    one = (np.asarray(draw(panels[0], long_side=600 // 3, numbers=False)) == 72).all(axis=-1).sum()
    assert 4.5 * one < ground < 5.5 * one
    assert sheet.width <= 600
