"""Masks are one truth in many forms."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fastseg import ops
from fastseg.errors import MaskError
from fastseg.masks import Masks, concatenate
from fastseg.timings import Timings

SIZE = (40, 60)


def make(count: int, prompts: int = 1) -> tuple[Masks, np.ndarray]:
    random = np.random.default_rng(count)
    arrays = random.random((count, *SIZE)) < random.uniform(0.05, 0.9, (count, 1, 1))
    runs = ops.rle_from_array(arrays)
    masks = Masks(
        runs=runs,
        scores=random.random(count, dtype=np.float32),
        stability=random.random(count, dtype=np.float32),
        boxes=ops.rle_boxes(runs),
        areas=ops.rle_areas(runs),
        prompt=np.arange(count) // max(1, count // prompts),
        timings=Timings(n_masks=count),
        logits=random.standard_normal((count, 8, 8)).astype(np.float32),
    )
    return masks, arrays


def test_every_form_shows_the_same_pixels():
    masks, arrays = make(5)
    np.testing.assert_array_equal(masks.array(), arrays)
    for mask, code, run in zip(arrays, masks.coco(), masks.rle(), strict=True):
        np.testing.assert_array_equal(coco_mask.decode(code).astype(bool), mask)
        back = coco_mask.decode(coco_mask.frPyObjects(dict(run), *SIZE)).astype(bool)
        np.testing.assert_array_equal(back, mask)
    np.testing.assert_array_equal(masks.areas, arrays.sum(axis=(1, 2)))


@pytest.mark.parametrize(
    ("index", "places"),
    [
        (slice(1, 4), [1, 2, 3]),
        ([3, 1], [3, 1]),
        (np.array([4, 0]), [4, 0]),
        (np.array([1, 0, 1, 0, 0], bool), [0, 2]),
        (-1, [4]),
        ([], np.array([], int)),
    ],
)
def test_indexing_gives_masks_again(index, places):
    masks, arrays = make(5)
    chosen = masks[index]
    assert isinstance(chosen, Masks)
    np.testing.assert_array_equal(chosen.array(), arrays[places])
    assert len(chosen.scores) == len(chosen.boxes) == len(chosen)
    assert chosen.logits is not None
    assert len(chosen.logits) == len(chosen)


def test_iterating_ends_and_indexing_beyond_the_end_raises():
    masks, arrays = make(3)
    assert [int(mask.areas[0]) for mask in masks] == arrays.sum(axis=(1, 2)).tolist()
    with pytest.raises(IndexError):
        masks[3]


def test_the_best_mask_of_each_prompt_scores_highest():
    masks, _ = make(9, prompts=3)
    best = masks.best()
    np.testing.assert_array_equal(best.prompt, [0, 1, 2])
    np.testing.assert_array_equal(best.scores, masks.scores.reshape(3, 3).max(axis=1))


def test_an_unknown_output_mode_is_named():
    masks, _ = make(1)
    with pytest.raises(MaskError, match="png"):
        masks.records("png")


def test_joined_masks_keep_what_all_of_them_have():
    (first, a), (second, b) = make(2), make(3)
    joined = concatenate([first, second], Timings())
    np.testing.assert_array_equal(joined.array(), np.concatenate([a, b]))
    assert joined.logits is not None
    bare = Masks(**{**{f: getattr(second, f) for f in second.__dataclass_fields__}, "logits": None})
    assert concatenate([first, bare], Timings()).logits is None
