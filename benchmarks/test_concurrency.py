"""Callers in several threads beside single calls one after another.

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
ROUNDS = 5

LEAST_FROM_CORES = 1.2
"""Times the speed of calls of one thread that as many callers as there are cores must reach."""

LEAST = 0.95
"""Of the speed of single calls: eight callers lose nothing, within what one machine varies by."""


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    print("\n" + environment.line())
    with fastseg.load("sam-nano", precision="fp32") as model:
        print({*model.runs.values()})
        yield model


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """The demo's picture at 3 megapixels, as a file, so that reading it takes a while."""
    large = Image.fromarray(read_image(PICTURE)).resize((2000, 1500))
    file = BytesIO()
    large.save(file, "jpeg")
    return file.getvalue()


def compared(name: str, ways: dict[str, Callable[[], object]], *, calls: int) -> dict[str, float]:
    """Print every way beside ``"serial"``, and give how many times as fast it is."""
    took = {way: statistics.median(times) for way, times in milliseconds(ways, ROUNDS).items()}
    for way, ms in took.items():
        print(f"{name:28} {way:10} {ms / calls:8.1f} ms a call  {took['serial'] / ms:.2f}x")
    return {way: took["serial"] / ms for way, ms in took.items()}


def test_eight_callers_lose_nothing(model, photograph):
    embedding = model.embed(photograph)
    work = {
        "a picture and a click": partial(model.segment, photograph, points=[1000, 750]),
        "a click": partial(model.segment, embedding, points=[1000, 750]),
    }
    for name, call in work.items():
        with ThreadPoolExecutor(CALLERS) as pool:
            ways = {
                "serial": lambda call=call: [call() for _ in range(CALLS)],
                "8 callers": lambda call=call, pool=pool: list(
                    pool.map(lambda _: call(), range(CALLS))
                ),
            }
            assert compared(name, ways, calls=CALLS)["8 callers"] >= LEAST


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_calls_of_one_thread_each_fill_the_cores(backend):
    """``threads=1`` and a caller for each core beside one caller with all cores."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    if usable_cores() == 1:
        pytest.skip("one core is all of them")
    frames = list(sectors(CALLS))
    with (
        fastseg.load("echo-a4c", backend=backend, precision="fp32") as whole,
        fastseg.load("echo-a4c", backend=backend, precision="fp32", threads=1) as single,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        ways = {
            "serial": lambda: [whole.segment(frame) for frame in frames],
            "one thread": lambda: [single.segment(frame) for frame in frames],
            "a caller a core": lambda: list(pool.map(single.segment, frames)),
        }
        gains = compared(f"a frame, {backend}", ways, calls=CALLS)
        assert gains["a caller a core"] >= LEAST
        assert gains["a caller a core"] >= LEAST_FROM_CORES * gains["one thread"]
