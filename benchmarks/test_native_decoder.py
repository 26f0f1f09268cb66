"""Speed of prompts on one image: the native decoder beside ONNX Runtime and OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="the peak in bfloat16 is measured with torch")

import fastseg
from benchmarks.products import product_gflops
from benchmarks.turns import milliseconds
from fastseg import artifacts, ops
from fastseg.artifacts import ModelFolder, registry
from fastseg.backends.base import Backend
from fastseg.backends.native import runtime as native
from fastseg.backends.selection import open_graph
from fastseg.benchmarking.arithmetic import float32_peak, low_rank_point_gmac
from fastseg.environment import usable_cores
from fastseg.errors import BackendError
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN

SIDE, GRID, ROUNDS = 1024, 64, 3
GRAPHS = ("image_state", "decoder", "mask_head")

GFLOP = {"scores": 2 * 0.44, "all masks": 2 * 0.85}
"""Operations of a point of 7 tokens without recomputation."""

LOW_RANK_GFLOP = {
    "scores": 2 * low_rank_point_gmac(drawn=False),
    "all masks": 2 * low_rank_point_gmac(),
}
"""The same in the low-rank form of native FP32, whose second stage makes 0.06 GMAC again. The first
stage makes the vectors of the masks too."""

CONTENDERS = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("native", "fp32"),
    ("native", "bf16"),
)


@pytest.fixture(scope="module")
def decoders() -> dict[str, dict[str, Backend]]:
    folder = artifacts.read(registry.find("sam-nano"))
    found = {}
    for backend, precision in CONTENDERS:
        if backend == "native" and precision not in native.precisions():
            continue
        try:
            found[f"{backend} {precision}"] = {
                name: opened(folder, name, backend, precision) for name in GRAPHS
            }
        except BackendError as error:
            print(f"{backend} {precision}: {error}")
    return found


def opened(folder: ModelFolder, name: str, backend: str, precision: str) -> Backend:
    """Open a graph in the given precision, also where fastseg would keep it in FP32."""
    if backend != "openvino":
        return open_graph(folder, name, backend=backend, precision=precision)
    from fastseg.backends.openvino import OpenVinoBackend

    stored = folder.manifest.graphs[name]
    return OpenVinoBackend(folder.file(stored), stored.graph, precision=precision)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 256, GRID, GRID), dtype=np.float32)


def runner(
    graphs: dict[str, Backend], features: np.ndarray, prompts: int, *, draw: bool
) -> Callable[[], int]:
    """Return a function that decodes points as the pipeline does, after the image state."""
    random = np.random.default_rng(1)
    coords = np.zeros((prompts, 2, 2), np.float32)
    coords[:, 0] = SIDE * random.random((prompts, 2))
    labels = np.array([[1, -1]] * prompts, np.int32)
    state = graphs["image_state"].run({"embedding": features})
    wants_state = {tensor.name for tensor in graphs["mask_head"].graph.inputs} & set(state)

    def run() -> int:
        drawn = 0
        for first in range(0, prompts, PROMPTS_PER_RUN):
            some = slice(first, first + PROMPTS_PER_RUN)
            points = {"point_coords": coords[some], "point_labels": labels[some]}
            found = graphs["decoder"].run({**points, **state})
            if draw:
                inputs = {name: state[name] for name in wants_state}
                inputs["image_tokens"] = found["image_tokens"]
                inputs["mask_vectors"] = np.ascontiguousarray(found["mask_vectors"][:, 1:])
                drawn += len(graphs["mask_head"].run(inputs)["low_res_logits"])
        return drawn

    return run


@pytest.mark.parametrize("stage", GFLOP)
def test_decoding_points(decoders, features, table, stage):
    peak = {**product_gflops(), "fp32": float32_peak().multiply_add}
    header = ("decoder", *(f"{n} points, ms" for n in (1, 8, 64)), "GFLOP/s", "of the peak")
    rows = [(*header, "x onnxruntime")]
    times = {
        count: milliseconds(
            {
                name: runner(graphs, features, count, draw=stage == "all masks")
                for name, graphs in decoders.items()
            },
            ROUNDS,
        )
        for count in (1, 8, 64)
    }
    base = float(np.median(times[64]["onnxruntime fp32"]))
    for name in decoders:
        medians = [float(np.median(times[count][name])) for count in times]
        gflop = (LOW_RANK_GFLOP if name == "native fp32" else GFLOP)[stage]
        speed = 64 * gflop / medians[-1] * 1e3
        share = speed / peak[name.split()[-1]]
        cells = [f"{median:.1f}" for median in medians]
        rows.append((name, *cells, f"{speed:.0f}", f"{share:.0%}", f"{base / medians[-1]:.1f}"))
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in peak.items())
    tables = [name for name in ops.kernel_tables() if name.split("-")[0] in ("amx", "avx512")]
    title = f"{stage} of points, {usable_cores()} threads, peak GFLOP/s {peaks}, {tables}"
    table(title, rows)


def test_a_grid_of_1024_points(decoders, features, table):
    rows = [("decoder", "scores of 1024, s", "all masks of 1024, s")]
    for name in ("onnxruntime fp32", "native fp32", "native bf16"):
        if name not in decoders:
            continue
        cells = []
        for draw in (False, True):
            run = runner(decoders[name], features, 1024, draw=draw)
            start = perf_counter()
            run()
            cells.append(f"{perf_counter() - start:.2f}")
        rows.append((name, *cells))
    table(f"A grid of 32 x 32 points, {usable_cores()} threads, once", rows)


def test_one_point_on_an_embedding(table):
    image = np.random.default_rng(2).integers(0, 256, (768, 1024, 3)).astype(np.uint8)
    backends = ("onnxruntime", "onnxruntime+native")
    models = {backend: fastseg.load("sam-nano", backend=backend) for backend in backends}
    embeddings = {backend: model.embed(image) for backend, model in models.items()}
    runs = {
        backend: partial(model.segment, embeddings[backend], points=[[400.0, 300.0]])
        for backend, model in models.items()
    }
    times = milliseconds(runs, 15)
    rows = [("backend", "median ms", "spread")]
    for backend, taken in times.items():
        spread = f"{min(taken):.1f}..{max(taken):.1f}"
        rows.append((backend, f"{float(np.median(taken)):.1f}", spread))
    table("One point after the embedding: three masks of 768 x 1024, as RLE, FP32", rows)
