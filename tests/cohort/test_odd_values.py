"""Runs of cohorts with some 200 odd values for each argument."""

from __future__ import annotations

import numpy as np
from PIL import Image

import fastseg
from fastseg import cohort
from fastseg.testing import tiny_sam_folder
from tests.helpers.odd_values import Entry, faults_of


def test_an_odd_value_gives_a_result_or_a_typed_error(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # a value may be a path, which is then written
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save("one.png")
    with fastseg.load(tiny_sam_folder("tiny")) as model:
        good = {
            "sources": [cohort.Item("one.png", boxes=[[4, 4, 20, 20]])],
            "model": model,
            "out": "out",
            "resume": True,
        }
        # Each would be a process or a part of its own.
        dear = {"workers": range(1, 2**64), "num_parts": range(1, 2**64)}
        entry = Entry("cohort.run", cohort.run, good, dear=dear)
        entry.call("out", "out")
        assert faults_of(entry) == {}
