"""Colours of a palette, beside NumPy's indexing."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import ops
from fastseg.errors import ImageError

COLOURS = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(), (1,), (0, 4), (3, 5, 11), (2, 300, 200)])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_every_index_gets_its_colour(shape: tuple[int, ...], threads: int) -> None:
    indices = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    rgb = ops.palette_to_rgb(indices, COLOURS, threads=threads)
    np.testing.assert_array_equal(rgb.reshape(-1, 3), COLOURS[indices.reshape(-1)])


def test_indices_with_gaps_between_them_are_taken() -> None:
    indices = np.arange(240, dtype=np.uint8).reshape(12, 20)[2:9, ::3]
    np.testing.assert_array_equal(ops.palette_to_rgb(indices, COLOURS), COLOURS[indices])


@pytest.mark.parametrize(
    ("indices", "colours"),
    [
        (np.zeros(4, np.uint16), COLOURS),
        (np.zeros(4, np.uint8), COLOURS[:255]),
        (np.zeros(4, np.uint8), COLOURS.astype(np.int16)),
    ],
)
def test_other_arrays_are_refused(indices: np.ndarray, colours: np.ndarray) -> None:
    with pytest.raises(ImageError, match="a palette gives uint8 indices"):
        ops.palette_to_rgb(indices, colours)
