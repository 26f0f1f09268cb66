"""Compressed run-length strings are those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from fastseg import ops
from fastseg.errors import MaskError
from tests.helpers import reference
from tests.helpers.mask_stacks import blobs, stacks

SIZE = (480, 640)


def test_strings_equal_those_of_pycocotools_both_ways():
    coco = pytest.importorskip("pycocotools.mask", reason="compares with pycocotools")
    masks = np.concatenate([blobs(4, SIZE), np.zeros((1, *SIZE), bool), np.ones((1, *SIZE), bool)])
    runs = ops.rle_from_array(masks)
    expected = [
        coco.frPyObjects({"size": list(SIZE), "counts": counts}, *SIZE)["counts"]
        for counts in runs.lists()
    ]
    assert ops.rle_to_strings(runs) == expected
    encoded = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    assert ops.rle_from_strings([code["counts"] for code in encoded], SIZE).lists() == runs.lists()


def test_strings_of_huge_masks_equal_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask", reason="compares with pycocotools")
    size = (65535, 65535)
    counts = [2**31 - 1, 3, 2**31 - 200_000, 7]
    counts.append(size[0] * size[1] - sum(counts))
    runs = ops.Rle.from_lists([counts], size)
    text = ops.rle_to_strings(runs)
    assert text == [coco.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]]
    assert ops.rle_from_strings(text, size).lists() == [counts]


@given(stacks)
@settings(deadline=None)
def test_any_masks_survive_the_round_trip(masks):
    runs = ops.rle_from_array(masks)
    again = ops.rle_from_strings(ops.rle_to_strings(runs), runs.size)
    assert again.lists() == [reference.run_lengths(mask) for mask in masks]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"P", "middle of a number"),
        (b"5P", "middle of a number"),
        (b"\x00", "character"),
        (b"6\xff", "character"),
        (b"6 ", "character"),
        (b"PPPPPPPPPPP1", "too long"),
        (b"O", "run length of -1"),
        (b"11O0N", "run length of -"),
        (b"oooooo7", "run length of 8"),
        (b"", "sum to 0"),
        (b"5", "sum to 5"),
        (b"61", "sum to 7"),
    ],
)
def test_a_malformed_string_is_refused_with_its_reason(text, reason):
    with pytest.raises(MaskError, match=f"mask 1 .*{reason}"):
        ops.rle_from_strings([b"6", text], (2, 3))


def test_text_must_be_bytes():
    with pytest.raises(MaskError, match="bytes"):
        ops.rle_from_strings(["6"], (2, 3))
