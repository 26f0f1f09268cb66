"""Ultrasound frames: what a user gives becomes luma and chroma, and the right square is seen."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fastseg.echo.frames import choose_view, each_frame, is_clip, read_frame
from fastseg.errors import ImageError

RANDOM = np.random.default_rng(5)
COLOURS = RANDOM.integers(0, 256, (6, 9, 3), np.uint8)
GREY = COLOURS[..., 0]


def test_colours_become_ycbcr_as_in_jpeg():
    red, green, blue = COLOURS.astype(np.float64).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = np.stack([luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma)], axis=2)
    found = read_frame(COLOURS, wanted=3)
    # Pillow's tables round each product; the coefficients above are rounded to three digits.
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 1.5
    np.testing.assert_array_equal(read_frame(COLOURS[..., ::-1], wanted=3, channels="bgr"), found)
    np.testing.assert_array_equal(read_frame(COLOURS, wanted=1), found[..., :1])


def test_stored_ycbcr_is_taken_as_it_is():
    np.testing.assert_array_equal(read_frame(COLOURS, wanted=3, channels="ycbcr"), COLOURS)
    floating = (COLOURS / 255).astype(np.float16)
    found = read_frame(floating, wanted=3, channels="ycbcr")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, floating.astype(np.float32))


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1)])
def test_grey_gets_neutral_chroma(shape):
    found = read_frame(GREY.reshape(shape), wanted=3)
    np.testing.assert_array_equal(found[..., 0], GREY)
    assert (found[..., 1:] == 128).all()
    floating = read_frame((GREY / 255.0).reshape(shape), wanted=3)
    np.testing.assert_array_equal(floating[..., 0], (GREY / 255.0).astype(np.float32))
    np.testing.assert_allclose(floating[..., 1:], 128 / 255, rtol=1e-7)


def test_grey_copied_to_three_channels_is_the_same_as_grey():
    copied = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_frame(copied, wanted=3), read_frame(GREY, wanted=3))


def test_a_file_knows_its_colours(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "frame.png")
    found = read_frame(tmp_path / "frame.png", wanted=3)
    np.testing.assert_array_equal(found, read_frame(COLOURS, wanted=3))
    for channels in ("bgr", "ycbcr"):
        with pytest.raises(ImageError, match="own channel"):
            read_frame(tmp_path / "frame.png", wanted=3, channels=channels)


def test_an_array_of_another_library_is_an_array(tmp_path):
    torch = pytest.importorskip("torch", reason="the other library is torch")
    found = read_frame(torch.from_numpy(COLOURS), wanted=3, channels="ycbcr")
    np.testing.assert_array_equal(found, COLOURS)


@pytest.mark.parametrize(
    "bad", [np.full((4, 4), np.nan), np.full((4, 4), 2.0), np.zeros((0, 4)), np.zeros((4, 4), int)]
)
def test_values_that_could_mean_anything_are_refused(bad):
    with pytest.raises(ImageError):
        read_frame(bad, wanted=3)
    with pytest.raises(ImageError, match="yuv"):
        read_frame(COLOURS, wanted=3, channels="yuv")


def test_without_a_spacing_the_longer_side_is_the_field_of_view():
    assert choose_view((256, 256)).window == (0, 0, 256, 256)
    assert choose_view((600, 800)).window == (0, -100, 800, 700)
    assert choose_view((801, 600)).window == (-100, 0, 701, 801)


def test_a_wide_frame_loses_columns_and_a_narrow_one_is_padded():
    # 800 columns of 0.05 cm are 40 cm: 400 columns go, half on each side, and rows to match.
    assert choose_view((600, 800), cm_per_pixel=0.05).window == (200, 100, 600, 500)
    # 300 columns of 0.05 cm are 15 cm: 100 columns are added, and rows up to the square.
    assert choose_view((300, 300), cm_per_pixel=0.05).window == (-50, -50, 350, 350)
    # The surplus of 0.5 / 0.3 columns is cut to one.
    assert choose_view((65, 65), cm_per_pixel=0.3).window == (0, 0, 66, 66)


@pytest.mark.parametrize("spacing", [0.0, -0.1, np.nan, np.inf, 100.0, 1e-9])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(ImageError, match="cm_per_pixel"):
        choose_view((256, 256), cm_per_pixel=spacing)


def test_a_stack_of_grey_frames_is_many():
    assert is_clip(np.zeros((30, 112, 112), np.uint8))
    assert is_clip(np.zeros((2, 8, 8, 3), np.uint8))
    assert is_clip([GREY])
    assert not is_clip(GREY)
    assert not is_clip(COLOURS)
    assert len(list(each_frame(np.zeros((5, 8, 8), np.uint8)))) == 5
    with pytest.raises(ImageError, match="not one"):
        list(each_frame(COLOURS))
