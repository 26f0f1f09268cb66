"""Speed of the CUDA kernels beside the CPU's on the same machine. Needs a GPU."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest

from fastseg import ops
from fastseg.cuda.kernels import MaskFilter
from fastseg.geometry import Frame
from tests.helpers import emulated_memory
from tests.ops.test_binarise import smooth_logits

pytestmark = pytest.mark.gpu

FRAME = Frame((1080, 1920))
PLANES = 192
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CALLS, ROUNDS = 20, 15


def timed(work, wait, calls):
    """Return median and relative spread of a call in ms: consecutive calls, and one wait."""
    work(), wait()
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        rounds.append(1e3 * (time.perf_counter() - start) / calls)
    middle = median(rounds)
    return middle, (max(rounds) - min(rounds)) / middle / 2


def compare(table, title, on_gpu, on_cpu, gpu):
    rows = [("where", "ms", "spread", "ratio")]
    cpu_ms, cpu_spread = timed(on_cpu, lambda: None, 1)
    gpu_ms, gpu_spread = timed(on_gpu, gpu.stream.synchronise, CALLS)
    rows.append(("cpu", f"{cpu_ms:.3f}", f"±{cpu_spread:.0%}", "1.0"))
    where = f"{gpu.device.name}, {CALLS} consecutive calls"
    rows.append((where, f"{gpu_ms:.3f}", f"±{gpu_spread:.0%}", f"{cpu_ms / gpu_ms:.1f}"))
    table(title, rows)
    assert gpu_ms > 0


def test_preprocessing(gpu, table):
    image = np.random.default_rng(0).integers(0, 256, (*FRAME.image, 3), dtype=np.uint8)
    out, given = gpu.empty((3, FRAME.side, FRAME.side), np.float32), gpu.up(image)
    scratch = gpu.empty((gpu.kernels.preprocess_workspace(FRAME),), np.uint8)
    compare(
        table,
        "preprocess, 1080p to 1024 x 1024, float32; the image lies in the memory of its kernel",
        lambda: gpu.kernels.preprocess(given, FRAME, MEAN, STD, out=out, workspace=scratch),
        lambda: ops.preprocess(image, FRAME, MEAN, STD),
        gpu,
    )


@pytest.mark.parametrize("threshold", [-1.0, 0.95], ids=["all written", "unstable left out"])
def test_logits_to_masks(gpu, table, threshold):
    logits = smooth_logits(PLANES, 256)
    given, labels = gpu.up(logits), gpu.up(emulated_memory.as_bytes(emulated_memory.labels(PLANES)))
    need = gpu.kernels.binarise_workspace(PLANES, (256, 256), FRAME)
    scratch, how = gpu.empty((need,), np.uint8), MaskFilter(0.0, 1.0, threshold, -1.0)
    # Every call adds candidates: masks beyond the capacity are measured and not written.
    capacity = len(ops.binarise(logits, FRAME).runs.counts) * (CALLS + 1) * (ROUNDS + 1)
    found = gpu.candidates(PLANES * (CALLS + 1) * (ROUNDS + 1), capacity)
    compare(
        table,
        f"binarise, {PLANES} masks of 1080p, rough outlines, stability of at least {threshold}",
        lambda: gpu.kernels.binarise(
            given, labels, FRAME, how, candidates=found, workspace=scratch
        ),
        lambda: ops.binarise(logits, FRAME),
        gpu,
    )
