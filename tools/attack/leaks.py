"""Calls that are made thousands of times: memory, open files and threads do not grow."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fastseg
from fastseg import ops, read_image
from fastseg.artifacts import safetensors
from tools.attack import memory
from tools.attack.campaign import (
    BrokenPromiseError,
    Campaign,
    Case,
    Counts,
    packages_missing,
    typed,
)

_ROUNDS = 4
BYTES_A_CALL = 250
"""Growth that counts as a leak where every round of calls shows it."""

_SMALLEST = 2**17
"""Growth of a round in bytes that the allocator alone may cause."""

_PLANTED_EVERY = 30

Call = Callable[[], object]


class Leaks(Campaign):
    """The calls of a service, an error among them; before them leaks that must be found."""

    name = "leaks"
    cases, short_cases = 25, 14
    budget, short_budget = 75.0, 18.0
    case_seconds = 120.0
    memory_bound = None
    workers = 1

    def missing(self) -> str:
        """Name the packages of the tiny models."""
        return packages_missing("onnx", "onnxruntime")

    def prepare(self, folder: Path) -> None:
        """Load the models and make the inputs."""
        from fastseg.testing import tiny_sam_folder, tiny_unet_folder

        sam = tiny_sam_folder(folder / "sam")
        self.planted = _planted()
        self.calls: list[tuple[Call, int]] = list(
            _calls(sam, tiny_unet_folder(folder / "unet"), folder)
        )

    def attack(self, case: Case) -> Counts:
        """Find a planted leak, or find none in fastseg."""
        if case.index < len(self.planted):
            return _find_planted(self.planted[case.index])
        place = (case.index - len(self.planted)) % len(self.calls)
        call, often = self.calls[place]
        # The short form has a case of each call; further cases go on for longer.
        often *= 1 + (case.index - len(self.planted)) // len(self.calls) * 9
        found = growth(call, often)
        if found:
            raise BrokenPromiseError(f"call {place} leaks: {found}")
        return Counts(_ROUNDS * often)


def growth(call: Call, often: int) -> str:
    """Make rounds of calls; say what each of them added, or nothing if one of them did not.

    The allocator alone can grow in a few rounds, when threads come and go. So what looks like a
    leak is reported only if twice as many further rounds show it too.

    Args:
        call: The call.
        often: Calls in a round.
    """
    for _ in range(max(often // 2, 3)):
        call()
    return _growth(call, often, _ROUNDS) and _growth(call, often, 2 * _ROUNDS)


def _growth(call: Call, often: int, rounds: int) -> str:
    marks = [_mark()]
    for _ in range(rounds):
        for _ in range(often):
            call()
        marks.append(_mark())
    steps = [
        tuple(after - before for before, after in zip(*pair, strict=True))
        for pair in pairwise(marks)
    ]
    smallest = [min(step[kind] for step in steps) for kind in range(3)]
    told = []
    if smallest[0] > max(BYTES_A_CALL * often, _SMALLEST):
        told.append(f"{smallest[0] / often:.0f} bytes a call")
    told += [
        f"{smallest[kind]} {name} a round"
        for kind, name in ((1, "open files"), (2, "threads"))
        if smallest[kind] > 0
    ]
    return ", ".join(told)


def _mark() -> tuple[int, int, int]:
    return memory.trimmed(), memory.open_files(), memory.threads()


def _find_planted(call: Call) -> Counts:
    often = 10 * _PLANTED_EVERY
    if not growth(call, often):
        raise BrokenPromiseError("a leak that was planted was not found")
    return Counts(_ROUNDS * often)


def _planted() -> list[Call]:
    """Return functions that leak memory, open files and threads, the last two now and then."""
    kept: list[Any] = []
    stop = threading.Event()

    def thread() -> threading.Thread:
        started = threading.Thread(target=stop.wait, daemon=True)
        started.start()
        return started

    def now_and_then(make: Call) -> Call:
        calls = count()
        return lambda: next(calls) % _PLANTED_EVERY or kept.append(make())

    return [
        lambda: kept.append(bytearray(1000)),
        now_and_then(Path("/dev/null").open),
        now_and_then(thread),
    ]


def _calls(sam_folder: Path, unet_folder: Path, folder: Path) -> list[tuple[Call, int]]:
    """Return calls of fastseg, with the number of them in a round."""
    sam: Any = fastseg.load(sam_folder, threads=2)
    unet: Any = fastseg.load(unet_folder, threads=2)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    runs = ops.rle_from_array(rng.random((4, 60, 80)) < 0.5)
    sam.embed(image).save(folder / "a.npz")
    weights = folder / "a.safetensors"
    safetensors.write(weights, {"a": np.ones(1000, np.float32)})

    def forms() -> None:
        masks = sam.segment(image, boxes=[[4, 4, 30, 30]])
        masks.array(), masks.coco(), masks.polygons(), masks.records()

    def errors() -> None:
        typed(lambda: sam.segment(image, points=[[1, 2, 3]]))
        typed(lambda: read_image(b"no image"))
        typed(lambda: ops.rle_from_strings([b"\xff"], (5, 5)))

    def load() -> None:
        with fastseg.load(sam_folder, threads=1):
            pass

    return [
        (lambda: sam.segment(image, points=[[20, 20]]), 200),
        (lambda: sam.everything(image, points_per_side=4, pred_iou_thresh=0.5), 80),
        (lambda: list(sam.stream([image] * 2, boxes=[[[4, 4, 30, 30]]] * 2)), 60),
        (lambda: unet.segment(image), 100),
        (forms, 100),
        (errors, 300),
        (lambda: read_image(stream.getvalue()), 600),
        (lambda: fastseg.Embedding.load(folder / "a.npz"), 200),
        (lambda: ops.rle_polygons(runs), 600),
        (lambda: safetensors.read(weights), 400),
        (load, 8),
    ]
