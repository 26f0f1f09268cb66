"""Promises of ``fastseg.validation.parity``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastseg import ops
from fastseg.errors import ParityError
from fastseg.validation.parity import Table, compare_arrays, compare_logits, compare_masks


def masks(*pixels: int) -> ops.Rle:
    """Masks of 4 x 4, the first so many pixels of each set."""
    flat = np.zeros((len(pixels), 16), np.bool_)
    for mask, count in zip(flat, pixels, strict=True):
        mask[:count] = True
    return ops.rle_from_array(flat.reshape(-1, 4, 4))


def test_equal_arrays_do_not_differ():
    array = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    row = compare_arrays("same", array, array.copy())
    assert (row.max_abs, row.relative, row.nmse) == (0.0, 0.0, 0.0)
    assert row.within(0.0)


def test_differences_are_relative_to_the_maximum_and_the_energy():
    row = compare_arrays("b", np.array([1.0, -4.5, 2.0]), np.array([1.0, -4.0, 2.0]))
    assert row.max_abs == 0.5
    assert row.relative == 0.125
    assert row.nmse == pytest.approx(0.25 / 21)


def test_long_arrays_are_compared_to_their_end():
    expected = np.ones(3 * 2**20 + 5, np.float32)
    actual = expected.copy()
    actual[-1] = 3
    assert compare_arrays("long", actual, expected).max_abs == 2.0


def test_nan_agrees_with_nan_alone():
    nan, one = np.array([np.nan, 1.0]), np.array([1.0, 1.0])
    assert compare_arrays("both", nan, nan).relative == 0.0
    assert compare_arrays("one", nan, one).relative == np.inf
    assert compare_arrays("other", one, nan).relative == np.inf


def test_any_value_differs_from_zeros_without_bound():
    row = compare_arrays("zeros", np.array([1e-9]), np.array([0.0]))
    assert row.relative == np.inf
    assert not row.within(1e9)


def test_other_shapes_cannot_be_compared():
    with pytest.raises(ParityError, match=r"shape \(2,\), and \(3,\)"):
        compare_arrays("shapes", np.zeros(2), np.zeros(3))
    with pytest.raises(ParityError, match="2 masks of"):
        compare_masks("masks", masks(1, 2), masks(1))


def test_masks_are_compared_pair_by_pair():
    row = compare_masks("masks", masks(8, 4, 0), masks(8, 8, 0))
    assert (row.mask_iou_min, row.mask_iou_mean) == (0.5, pytest.approx(2.5 / 3))
    assert row.relative == 0.5
    assert row.nmse == pytest.approx(4 / 16)
    assert not row.within(0.1)


def test_no_masks_agree():
    nothing = masks(3)[:0]
    assert compare_masks("nothing", nothing, nothing).within(0.0)


def test_logits_are_compared_as_numbers_and_as_masks():
    expected = np.full((1, 2, 4, 4), -1.0, np.float32)
    expected[..., :2] = 1.0
    actual = expected.copy()
    actual[0, 1, 0, 2] = 0.5
    row = compare_logits("logits", actual, expected)
    assert row.max_abs == 1.5
    assert row.mask_iou_min == pytest.approx(8 / 9)


def test_a_table_is_within_a_tolerance_if_every_row_is():
    near = compare_arrays("near", np.array([1.001]), np.array([1.0]))
    far = compare_arrays("far", np.array([2.0]), np.array([1.0]))
    assert Table((near,)).within(0.01)
    assert not Table((near, far)).within(0.01)
    assert Table(()).within(0.0)


def test_a_table_can_be_read_and_stored():
    table = Table(
        (
            compare_arrays("unbounded", np.array([1.0]), np.array([0.0])),
            compare_masks("masks", masks(4), masks(8)),
        )
    )
    stored = json.loads(json.dumps(table.as_rows(), allow_nan=False))
    assert stored[0]["relative"] == "inf"
    assert "mask_iou_min" not in stored[0]
    assert stored[1]["mask_iou_min"] == 0.5
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines] == ["name", "unbounded", "masks"]
    assert "0.500000" in lines[2]
