"""One model used by 32 threads at once: every result has the bits of a serial call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import fastseg
from tools.attack.campaign import Campaign, Case, Counts, packages_missing, require

THREADS = 32
_IMAGES = 8


class Concurrency(Campaign):
    """``segment`` and ``everything`` with prompts, and ``segment`` of frames."""

    name = f"{THREADS} threads"
    cases, short_cases = 12, 2
    budget, short_budget = 30.0, 8.0
    case_seconds = 120.0
    memory_bound = None
    workers = 1

    def missing(self) -> str:
        """Name the packages of the tiny models."""
        return packages_missing("onnx", "onnxruntime")

    def prepare(self, folder: Path) -> None:
        """Load the models and compute what each call returns alone."""
        from fastseg.testing import tiny_sam_folder, tiny_unet_folder

        self.sam: Any = fastseg.load(tiny_sam_folder(folder / "sam"), threads=1)
        self.unet: Any = fastseg.load(tiny_unet_folder(folder / "unet"), threads=1)
        rng = np.random.default_rng(0)
        sizes = rng.integers(20, 90, (_IMAGES, 2))
        self.images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        self.serial = [self.call(number) for number in range(3 * _IMAGES)]

    def call(self, number: int) -> tuple[bytes, ...]:
        """Make one of the calls and return the bytes of its masks and scores."""
        image = self.images[number % _IMAGES]
        kind = number // _IMAGES
        if kind == 0:
            masks = self.sam.segment(image, boxes=[[2, 2, 15, 15]], points=[[9, 9]])
        elif kind == 1:
            masks = self.sam.everything(image, points_per_side=4, pred_iou_thresh=0.5)
        else:
            masks = self.unet.segment(image)
        arrays = (masks.runs.counts, masks.runs.offsets, masks.scores, masks.stability)
        return tuple(array.tobytes() for array in arrays)

    def attack(self, case: Case) -> Counts:
        """Make each call several times in a random order from many threads."""
        numbers = list(range(len(self.serial))) * (THREADS // 2)
        case.random.shuffle(numbers)
        with ThreadPoolExecutor(THREADS) as pool:
            for number, found in zip(numbers, pool.map(self.call, numbers), strict=True):
                require(found == self.serial[number], "threads give the bits of serial calls")
        return Counts(len(numbers))
