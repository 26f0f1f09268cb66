"""Throughput of a cohort, with its journal and result files, beside ``stream`` in a loop.

Run by ``python -m pytest benchmarks/test_cohort.py -s``. A ratio below its floor fails.
"""

from __future__ import annotations

import shutil
import statistics
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastseg
from benchmarks.turns import milliseconds
from fastseg import cohort, environment

IMAGES = 8
ROUNDS = 3

LEAST = 0.95
"""Least throughput of a cohort as a share of ``stream``."""

BOX = [20.0, 20.0, 200.0, 150.0]


def test_a_cohort_is_as_fast_as_a_stream(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    print("\n" + environment.line())
    files = []
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (192, 256, 3), dtype=np.uint8)
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    items = [cohort.Item(str(file), boxes=[BOX]) for file in files]
    numbers = count()
    with fastseg.load("sam-nano", precision="fp32") as model:
        print({*model.runs.values()})

        def stream() -> None:
            for _ in model.stream(files, boxes=[[BOX]] * IMAGES):
                pass

        def journaled() -> None:
            out = tmp_path / f"out{next(numbers)}"
            assert all(one.status == "done" for one in cohort.run(items, model, out=out))
            shutil.rmtree(out)

        times = milliseconds({"stream": stream, "cohort": journaled}, ROUNDS)
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, ms in medians.items():
        print(f"{name:8} {ms / IMAGES:8.1f} ms an image  {1000 * IMAGES / ms:6.2f} images/s")
    share = medians["stream"] / medians["cohort"]
    print(f"cohort / stream {share:.3f}")
    assert share >= LEAST
