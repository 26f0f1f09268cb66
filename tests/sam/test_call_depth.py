"""A call goes through few files: the stack is captured inside the native kernels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg import _core  # noqa: TID251 - the kernels are watched where they are entered

ROOT = str(Path(fastseg.__file__).parent)
AT_ONCE = {"decoder_image_state", "decoder_decode_above", "binarise"}
KERNELS = (*sorted(AT_ONCE), "decoder_decode", "decoder_draw")


def files_on_the_stack() -> frozenset[str]:
    found, frame = set(), sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(ROOT):
            found.add(frame.f_code.co_filename[len(ROOT) :])
        frame = frame.f_back
    return frozenset(found)


@pytest.fixture
def stacks(monkeypatch) -> dict[str, set[frozenset[str]]]:
    """Files of the package below each call of a kernel, by the kernel's name."""
    seen: dict[str, set[frozenset[str]]] = {}

    def watched(name: str):
        kernel = getattr(_core, name)

        def called(*arguments):
            seen.setdefault(name, set()).add(files_on_the_stack())
            return kernel(*arguments)

        return called

    for name in KERNELS:
        monkeypatch.setattr(_core, name, watched(name))
    return seen


@pytest.fixture(scope="module")
def model() -> Iterator[fastseg.Sam]:
    # One thread: no part of a call then runs in a thread with a stack of its own.
    with fastseg.load("sam-nano", backend="onnxruntime+native", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def test_segment_is_at_most_five_files_deep(model, image, stacks):
    found = model.segment(image, points=[64, 48], multimask=False)
    model.segment(image, points=[64, 48], mask_logits=found.logits[0])
    assert stacks.keys() == AT_ONCE
    for name, files in stacks.items():
        assert max(map(len, files)) <= 5, (name, files)


def test_everything_is_at_most_six_files_deep(model, image, stacks):
    loose = {"pred_iou_thresh": -10.0, "stability_score_thresh": 0.0}
    model.everything(image, points_per_side=2, **loose)
    assert stacks.keys() == AT_ONCE
    for name, found in stacks.items():
        assert max(map(len, found)) <= 6, (name, found)
