"""Promises of ``fastseg.echo.picture``."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.echo.findings import Place, find
from fastseg.echo.picture import PANEL_WIDTH, EchoPanel, colour, draw
from fastseg.echo.views import VIEWS
from tests.helpers.chamber_bodies import CM_PER_PIXEL, ellipse, named
from tests.helpers.chamber_bodies import draw as drawn_body

GREY = np.full((256, 256, 3), 60, np.uint8)
LV = drawn_body(ellipse(4.2, 2.2), centre=(-3, 0))
LA = drawn_body(ellipse(2.3, 2.0), centre=(5, 0))


def panel(view: str, masks: np.ndarray, image: np.ndarray = GREY, **words: str) -> EchoPanel:
    found = named(view, masks)
    return EchoPanel(image, found, find(found, Place(view), cm_per_pixel=CM_PER_PIXEL), **words)


def frame_of(drawing) -> np.ndarray:
    """The part of the image that shows the frame, four times enlarged."""
    return np.asarray(drawing)[58 : 58 + 1024, 28 : 28 + 1024].astype(int)


def near(pixels: np.ndarray, shade: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - np.array(shade)).max(axis=2) < 30


def test_a_chamber_has_a_coloured_contour_and_a_clear_inside() -> None:
    pixels = frame_of(draw(panel("a2c", np.stack([LA, LV]))))
    for name, mask in (("LA", LA), ("LV", LV)):
        rows, columns = np.nonzero(near(pixels, colour(name)))
        box_rows, box_columns = np.nonzero(mask)
        assert abs(rows.min() - 4 * box_rows.min()) <= 6
        assert abs(rows.max() - 4 * box_rows.max()) <= 8
        assert abs(columns.min() - 4 * box_columns.min()) <= 6
    plain = 4 * 90 + 2, 4 * 110 + 5  # inside the LV, between two disks or on one
    assert np.abs(pixels[plain] - 54).max() < 60


def test_axis_and_disks_are_drawn_with_ticks_a_centimetre_apart() -> None:
    pixels = frame_of(draw(panel("a2c", np.stack([np.zeros_like(LV), LV]))))
    white = (pixels > 200).all(axis=2)
    axis_column = 4 * 128
    assert white[4 * 60 : 4 * 70, axis_column - 8 : axis_column + 8].any(axis=1).all()
    column = pixels[:, 4 * 112].astype(int)  # beside the axis: only disks cross it
    tinted = column[:, 1] - column[:, 0] > 12
    crossings = np.count_nonzero(np.diff(tinted.astype(int)) == 1)
    assert crossings >= 19
    ticks = np.flatnonzero(np.diff((pixels[:, 3].min(axis=1) > 150).astype(int)) == 1)
    np.testing.assert_allclose(np.diff(ticks), 4 / CM_PER_PIXEL, atol=1.5)


def test_the_short_axis_has_two_contours_and_no_axis() -> None:
    cavity, disc = drawn_body(ellipse(2.2, 2.2)), drawn_body(ellipse(3.1, 3.1))
    pixels = frame_of(draw(panel("sax", np.stack([cavity, disc & ~cavity, disc]))))
    assert near(pixels, colour("cavity")).any()
    assert near(pixels, colour("disc")).any()
    assert not (pixels[300:700, 300:700] > 200).all(axis=2).any()


def test_chambers_differ_in_colour() -> None:
    for chambers in (VIEWS["a4c"].chambers, ("cavity", "disc")):
        shades = np.array([colour(name) for name in chambers])
        apart = np.abs(shades[:, None] - shades).max(axis=2)
        assert apart[~np.eye(len(shades), dtype=bool)].min() > 60


def test_nothing_found_leaves_the_frame_as_it_is_and_says_so() -> None:
    empty = np.zeros((2, 256, 256), np.bool_)
    drawing = draw(panel("a2c", empty))
    inside = frame_of(drawing)[:, 40:]
    assert (inside == inside[0, 0]).all()
    numbers = np.asarray(drawing)[58:400, -PANEL_WIDTH - 28 :]
    assert (numbers > 120).any(), "the column of numbers has words"


@pytest.mark.parametrize("size", [(1, 1), (24, 31), (600, 800), (40, 900), (1500, 1100)])
def test_a_frame_of_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    masks = np.zeros((2, *size), np.bool_)
    masks[:, size[0] // 4 : 3 * size[0] // 4, size[1] // 4 : 3 * size[1] // 4] = True
    drawing = draw(panel("a2c", masks, np.zeros((*size, 3), np.uint8)), long_side=512)
    assert drawing.mode == "RGB"
    assert drawing.width <= 512 + PANEL_WIDTH + 3 * 28


def test_title_and_notice_are_written_and_made_to_fit() -> None:
    masks = np.stack([LA, LV])
    bare = np.asarray(draw(panel("a2c", masks)))
    told = draw(panel("a2c", masks, title="a title " * 60, legend="a legend " * 60))
    assert told.size == (bare.shape[1], bare.shape[0])
    assert (np.asarray(told)[20:50, 28:] > 200).any()
    assert not (bare[20:50, 28:] > 200).any()
    assert (bare[-50:, 28:600] > 100).any(), "the notice is always there"
