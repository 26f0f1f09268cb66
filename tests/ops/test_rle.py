"""Run lengths as a value: indexing, joining, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg.errors import MaskError
from fastseg.ops.rle import Rle

LISTS = [[6], [0, 6], [1, 2, 3], [2, 1, 1, 1, 1]]


@pytest.fixture
def runs():
    return Rle.from_lists(LISTS, (2, 3))


def test_lists_come_back(runs):
    assert len(runs) == 4
    assert runs.lists() == LISTS
    assert [one.lists() for one in runs] == [[counts] for counts in LISTS]


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 3),
        slice(None, None, -2),
        slice(4, 9),
        [3, 0, 0],
        [],
        np.array([-1, 1]),
        np.array([True, False, False, True]),
    ],
)
def test_indexing_chooses_as_numpy_does(runs, index):
    chosen = np.arange(4)[index]
    assert runs[index].lists() == [LISTS[i] for i in chosen]
    assert runs[index].size == (2, 3)


def test_one_index_gives_one_mask(runs):
    assert runs[-1].lists() == [LISTS[3]]
    with pytest.raises(IndexError):
        runs[4]


def test_joining_keeps_the_order(runs):
    assert Rle.concatenate([runs[2], runs[:0], runs[:2]]).lists() == [LISTS[2], *LISTS[:2]]


def test_no_masks_have_a_size(runs):
    empty = Rle.from_lists([], (2, 3))
    assert len(empty) == 0
    assert empty.lists() == []


def test_masks_of_different_sizes_do_not_join(runs):
    with pytest.raises(MaskError, match=r"\(3, 2\)"):
        Rle.concatenate([runs, Rle.from_lists(LISTS, (3, 2))])
    with pytest.raises(MaskError, match="one size"):
        Rle.concatenate([])


@pytest.mark.parametrize("counts", [[-1, 7], [2**32], [10**30], [1.5, 4.5], ["6"]])
def test_what_is_no_run_length_is_refused(counts):
    with pytest.raises(MaskError, match="run lengths"):
        Rle.from_lists([counts], (2, 3))


@pytest.mark.parametrize("offsets", [[], [0], [1, 3], [0, 2], [0, 4, 3], [[0, 3]], [0.0, 3.0]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(MaskError, match="offsets"):
        Rle(np.array([1, 2, 3], np.uint32), np.array(offsets), (2, 3))


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (-1, 4), (2**16, 2**16)])
def test_sizes_without_pixels_or_with_too_many_are_refused(size):
    with pytest.raises(MaskError, match="pixels"):
        Rle.from_lists([], size)
