"""Conversion of luma and chroma to RGB, beside exact fractions."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import ops
from fastseg.errors import ImageError

CHROMA = np.arange(256, dtype=np.int64) - 128


def rounded(numerators: np.ndarray, denominator: int) -> np.ndarray:
    """Round fractions half up."""
    return (2 * numerators + denominator) // (2 * denominator)


def exact(ycbcr: np.ndarray) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2 in whole numbers; 0.587 G = Y - 0.299 R - 0.114 B."""
    luma, blue, red = (ycbcr[..., channel].astype(np.int64) for channel in range(3))
    blue, red = blue - 128, red - 128
    offsets = [
        rounded(1402 * red, 1000),
        rounded(-(114 * 1772 * blue + 299 * 1402 * red), 587_000),
        rounded(1772 * blue, 1000),
    ]
    rgb = np.stack([luma + offset for offset in offsets], axis=-1)
    return np.clip(rgb, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("luma", [0, 1, 77, 128, 254, 255])
def test_every_pair_of_chroma_gives_what_exact_fractions_give(luma: int) -> None:
    blue, red = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    frame = np.stack([np.full_like(blue, luma), blue, red], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(ops.ycbcr_to_rgb(frame), exact(frame))


@pytest.mark.parametrize("shape", [(1, 3), (7, 3), (3, 5, 11, 3), (2, 130, 129, 3), (0, 4, 3)])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_any_shape_and_any_number_of_threads_give_the_same(
    shape: tuple[int, ...], threads: int
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(ops.ycbcr_to_rgb(frames, threads=threads), exact(frames))


def test_frames_with_gaps_between_their_rows_are_taken() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    part = frames[:, 3:9, ::2]
    np.testing.assert_array_equal(ops.ycbcr_to_rgb(part), exact(part))


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 4), np.uint8), np.zeros((4, 3), np.uint16), np.zeros(3, np.uint8)]
)
def test_other_arrays_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(ImageError, match="luma and chroma must be uint8"):
        ops.ycbcr_to_rgb(frames)


@pytest.mark.parametrize("threads", [1, 3])
def test_frames_may_be_converted_in_their_own_array(threads: int) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (2, 131, 257, 3), dtype=np.uint8)
    expected = exact(frames)
    assert ops.ycbcr_to_rgb(frames, out=frames, threads=threads) is frames
    np.testing.assert_array_equal(frames, expected)


def test_an_array_that_does_not_fit_is_not_written() -> None:
    frames = np.zeros((4, 5, 3), np.uint8)
    for out in (
        np.ones((5, 4, 3), np.uint8),
        np.ones((4, 5, 3), np.int16),
        np.ones((4, 10, 3), "u1")[:, ::2],
    ):
        with pytest.raises(ImageError, match="out must be"):
            ops.ycbcr_to_rgb(frames, out=out)
        assert (out == 1).all()
