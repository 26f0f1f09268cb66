"""A backend over a fake engine and a fake device, and the outputs that it must give."""

from __future__ import annotations

import numpy as np

from fastseg.backends.tensorrt.backend import TensorRtBackend
from fastseg.contract import GraphSpec, TensorSpec
from tests.fakes.fake_cuda import FakeCuda
from tests.fakes.fake_engine import FakeEngine

X = TensorSpec("x", "float32", ("prompts", "points", 4))
SHARED = TensorSpec("shared", "float32", (1, 4))
Y = TensorSpec("y", "float32", ("prompts", 4))
COUNT = TensorSpec("count", "int32", ("prompts",))
GRAPH = GraphSpec("decoder", (X, SHARED), (Y, COUNT))
ROW_BYTES = 1000


def compute(inputs):
    x, shared = inputs["x"], inputs["shared"]
    count = np.full(len(x), x.shape[1], np.int32)
    return {"y": x.sum(axis=1) + shared, "count": count}


def call(prompts: int, points: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "x": random.random((prompts, points, 4), dtype=np.float32),
        "shared": random.random((1, 4), dtype=np.float32),
    }


class Setup:
    """A backend, its engine and its device."""

    def __init__(self, memory="host", memory_bytes=2**40, *, graph=GRAPH, records=True):
        self.device = FakeCuda(memory_bytes)
        self.engine = FakeEngine(
            graph, compute, device=self.device, scratch_bytes=ROW_BYTES, records=records
        )
        self.backend = TensorRtBackend(
            self.engine, graph, self.device, runtime="tensorrt", memory=memory
        )

    @property
    def calls(self) -> list[tuple[int, int]]:
        """Optimisation profile and number of prompts of each execution."""
        return [
            (profile, shapes["x"][0])
            for context in self.engine.contexts
            for profile, shapes in context.calls
        ]


def assert_right(outputs, inputs) -> None:
    for name, expected in compute(inputs).items():
        np.testing.assert_array_equal(outputs[name], expected)
