"""The axes of an array are named, or guessed only where frames have the shape of frames."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.echo.frames import arrange, is_clip
from fastseg.errors import ImageError

CLIP = np.arange(5 * 24 * 32 * 3, dtype=np.uint8).reshape(5, 24, 32, 3)


@pytest.mark.parametrize("count", range(1, 9))
def test_a_grey_clip_of_any_length_is_a_clip(count):
    assert is_clip(np.zeros((count, 24, 32), np.uint8))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_at_the_end_are_one_frame(channels):
    assert not is_clip(np.zeros((24, 32, channels), np.uint8))


@pytest.mark.parametrize("count", [2, 5, 8])
def test_frames_along_the_last_axis_are_refused_with_the_remedy(count):
    with pytest.raises(ImageError, match=r'axes="hwn".*axes="nhw"'):
        is_clip(np.zeros((24, 32, count), np.uint8))


@pytest.mark.parametrize("axes", ["nhwc", "hwnc", "hwcn", "cnhw", "nchw"])
def test_named_axes_give_the_same_frames(axes):
    given = CLIP.transpose(["nhwc".index(letter) for letter in axes])
    frames = arrange(given, axes)
    assert np.array_equal(np.stack(frames), CLIP)
    assert is_clip(frames)
    assert np.shares_memory(frames[0], given)


def test_named_axes_are_no_guess():
    assert len(arrange(np.zeros((24, 32, 3), np.uint8), "hwn")) == 3
    assert len(arrange(np.zeros((5, 24, 3), np.uint8), "nhw")) == 5
    assert arrange(np.zeros((3, 24, 32), np.uint8), "chw").shape == (24, 32, 3)
    assert arrange(CLIP, None) is CLIP


@pytest.mark.parametrize("axes", ["", "h", "hh", "nhwx", "hwcc", 5, "tzyx"])
def test_axes_that_say_nothing(axes):
    with pytest.raises(ImageError, match="axes must be letters"):
        arrange(CLIP, axes)


@pytest.mark.parametrize("frames", [CLIP[0, ..., 0], "a.png", [CLIP[0]]])
def test_axes_of_another_thing(frames):
    with pytest.raises(ImageError, match='axes="nhw" is for a NumPy array of 3 axes'):
        arrange(frames, "nhw")
