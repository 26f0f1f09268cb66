"""Run-length strings and lists of counts that nobody wrote, and what operations make of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from random import Random
from typing import Any

import numpy as np

from fastseg import ops
from fastseg.errors import FastsegError
from fastseg.ops import Rle
from tools.attack.campaign import Campaign, Case, Counts, require

_PER_CASE = 100
_EDGES = (0, 1, 2, 31, 32, 2**15, 2**16, 2**31, 2**32 - 1, 2**32, 2**63, -1)


class RunLengths(Campaign):
    """Strings and counts, of which each is a mask that all operations agree about or an error."""

    name = "run lengths"
    cases, short_cases = 1000, 40
    budget, short_budget = 30.0, 6.0

    def attack(self, case: Case) -> Counts:
        """Try some strings and some lists of counts."""
        counts = Counts(0)
        for _ in range(_PER_CASE):
            size = (case.random.randint(1, 70), case.random.randint(1, 70))
            text = _string(case.random, size)
            runs = _counts(case.random, size)
            counts += _tried(lambda text=text, size=size: ops.rle_from_strings([text], size))
            counts += _tried(lambda runs=runs, size=size: Rle.from_lists([runs], size))
        return counts


def _tried(make: Callable[[], Rle]) -> Counts:
    try:
        rle = make()
        ops.rle_check(rle)
    except FastsegError:
        return Counts(refused=1)
    check(rle)
    return Counts()


def check(rle: Rle) -> None:
    """Check that all forms of masks agree, also with the reference implementation if it is here."""
    array = ops.rle_to_array(rle)
    require(bool((ops.rle_areas(rle) == array.sum((1, 2))).all()), "areas equal drawn pixels")
    for mask, box in zip(array, ops.rle_boxes(rle), strict=True):
        y, x = np.nonzero(mask)
        drawn = [x.min(), y.min(), x.max(), y.max()] if y.size else [0, 0, 0, 0]
        require(box.tolist() == drawn, "boxes equal drawn pixels")
    again = ops.rle_from_strings(ops.rle_to_strings(rle), rle.size)
    require(bool((ops.rle_to_array(again) == array).all()), "strings give the masks back")
    same = np.diag(ops.rle_iou(rle, rle))
    require(bool((same == 1).all()), "a mask equals itself")
    ops.rle_polygons(rle)
    ops.rle_remove_small_regions(rle, 9, "holes")
    if find_spec("pycocotools"):
        _compare(rle, array)


def _compare(rle: Rle, array: np.ndarray[Any, Any]) -> None:
    from pycocotools import mask as reference

    for code, mask in zip(ops.rle_to_strings(rle), array, strict=True):
        drawn = reference.decode({"size": list(rle.size), "counts": code})
        require(bool((drawn.astype(bool) == mask).all()), "pycocotools draws the same mask")


def _string(random: Random, size: tuple[int, int]) -> bytes:
    if random.random() < 0.4:
        return random.randbytes(random.randint(0, 40))
    text = bytearray(ops.rle_to_strings(_drawn(random, size))[0])
    for _ in range(random.choice((0, 1, 1, 3))):
        text[random.randrange(len(text))] = random.randint(0x30, 0x70)
    return bytes(text)


def _counts(random: Random, size: tuple[int, int]) -> list[int]:
    runs = _drawn(random, size).lists()[0]
    for _ in range(random.choice((0, 0, 1, 2))):
        place = random.randrange(len(runs) + 1)
        kind = random.randrange(3)
        if kind == 0:
            runs.insert(place, random.choice(_EDGES))
        elif kind == 1 and place < len(runs):
            runs[place] = random.choice(_EDGES)
        else:
            runs[place:place] = [0, 0]  # two empty runs change nothing
    return runs


def _drawn(random: Random, size: tuple[int, int]) -> Rle:
    rng = np.random.default_rng(random.getrandbits(32))
    return ops.rle_from_array(rng.random((1, *size)) < random.random())
