"""Speed of callers in several threads beside single calls one after another.

Run by ``python -m pytest benchmarks/test_concurrency.py -s``. A ratio below its floor fails.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO

import pytest
from PIL import Image

import fastseg
from benchmarks.turns import milliseconds
from fastseg import environment
from fastseg.demo import PICTURE
from fastseg.environment import usable_cores
from fastseg.images import read_image
from fastseg.validation.synthetic import sectors

CALLERS = 8
CALLS = 8
ROUNDS = 7

LEAST_FROM_CORES = 1.2
"""Least speed of as many callers as cores, as a multiple of calls of one thread."""

LEAST = 0.95
"""Least speed of eight callers as a share of single calls; the rest is the machine's variation."""


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    print("\n" + environment.line())
    with fastseg.load("sam-nano", precision="fp32") as model:
        print({*model.runs.values()})
        yield model


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """Return the demo image at 3 megapixels, as a file, so that reading it takes a while."""
    large = Image.fromarray(read_image(PICTURE)).resize((2000, 1500))
    file = BytesIO()
    large.save(file, "jpeg")
    return file.getvalue()


def compared(name: str, runs: dict[str, Callable[[], object]], *, calls: int) -> dict[str, float]:
    """Print every run beside ``"serial"``, and return its speed as a multiple of that.

    It is the median of the rounds' ratios: the machine's speed drifts from one round to the next.
    """
    times = milliseconds(runs, ROUNDS)
    speeds = {}
    for run, each in times.items():
        ratios = [serial / ms for serial, ms in zip(times["serial"], each, strict=True)]
        speeds[run] = statistics.median(ratios)
        ms = statistics.median(each) / calls
        print(f"{name:28} {run:10} {ms:8.1f} ms a call  {speeds[run]:.2f}x")
    return speeds


def test_eight_callers_lose_nothing(model, photograph):
    embedding = model.embed(photograph)
    work = {
        "an image and a point": partial(model.segment, photograph, points=[1000, 750]),
        "a point": partial(model.segment, embedding, points=[1000, 750]),
    }
    for name, call in work.items():
        with ThreadPoolExecutor(CALLERS) as pool:
            runs = {
                "serial": lambda call=call: [call() for _ in range(CALLS)],
                "8 callers": lambda call=call, pool=pool: list(
                    pool.map(lambda _: call(), range(CALLS))
                ),
            }
            assert compared(name, runs, calls=CALLS)["8 callers"] >= LEAST


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_calls_of_one_thread_each_fill_the_cores(backend):
    """Compare ``threads=1`` and a caller for each core with one caller with all cores."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    if usable_cores() == 1:
        pytest.skip("one core is all of them")
    frames = list(sectors(CALLS))
    with (
        fastseg.load("echo-a4c", backend=backend, precision="fp32") as whole,
        fastseg.load("echo-a4c", backend=backend, precision="fp32", threads=1) as single,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        runs = {
            "serial": lambda: [whole.segment(frame) for frame in frames],
            "one thread": lambda: [single.segment(frame) for frame in frames],
            "a caller a core": lambda: list(pool.map(single.segment, frames)),
        }
        gains = compared(f"a frame, {backend}", runs, calls=CALLS)
        assert gains["a caller a core"] >= LEAST
        assert gains["a caller a core"] >= LEAST_FROM_CORES * gains["one thread"]
