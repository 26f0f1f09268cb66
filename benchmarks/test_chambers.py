"""Speed of cleaning and measuring the masks of echo frames."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="the generator of frames is part of the training")

import fastseg
from fastseg import ops
from fastseg.benchmarking.repetition import StoppingRule, repeat
from fastseg.environment import usable_cores
from fastseg.measure import measure

Table = Callable[[str, list[tuple[str, ...]]], None]

FRAMES = 32
RULE = StoppingRule(warm_up=1, min_rounds=5, max_rounds=25, max_seconds=10.0)


def milliseconds(name: str, call: Callable[[], object]) -> float:
    def once() -> dict[str, float]:
        start = perf_counter()
        call()
        return {name: 1e3 * (perf_counter() - start)}

    return repeat(name, once, RULE).stages["total"].percentile(50)


def test_cleaning_and_measuring_a_mask(table: Table) -> None:
    from training.echo.phantom import generate

    random = np.random.default_rng(2026)
    frames = np.stack([generate(random, "a4c").frame.transpose(1, 2, 0) for _ in range(FRAMES)])
    with fastseg.load("echo-a4c") as model:
        probabilities = model.probabilities(frames, channels="ycbcr")
        masks = model.segment(frames, channels="ycbcr")
        count = FRAMES * len(model.chambers)
    clean = milliseconds("clean", lambda: ops.clean_chambers(probabilities, exclusive=True))
    default, source = (
        milliseconds(
            mode,
            lambda mode=mode: [measure(one, cm_per_pixel=20 / 256, mode=mode) for one in masks],
        )
        for mode in ("default", "source")
    )
    rows: list[tuple[str, ...]] = [("", "ms a mask")]
    for name, took in (
        ("clean", clean),
        ("measure, default", default),
        ("measure, source", source),
        ("clean and measure", clean + max(default, source)),
    ):
        rows.append((name, f"{took / count:.3f}"))
    table(f"cleaning and measuring, {count} masks of 256 x 256, {usable_cores()} threads", rows)
