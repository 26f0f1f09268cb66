"""Speed of a model on this machine: each stage and mask warm, peak memory, and a cold start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg import environment
from fastseg.benchmarking.arithmetic import Arithmetic, float32_peak
from fastseg.benchmarking.peak_memory import peak_memory
from fastseg.benchmarking.repetition import Measurement, Stages, StoppingRule, repeat
from fastseg.errors import BackendError
from fastseg.inference.sessions import Choice
from fastseg.loading import load_sam
from fastseg.masks import Masks
from fastseg.ops import PeakRates, point_grid
from fastseg.sam.embedding import Embedding
from fastseg.sam.model import Sam
from fastseg.timings import STAGES


@dataclass(frozen=True, slots=True)
class BenchmarkPlan:
    """A model, the image and calls to measure, and the configuration to run it in."""

    model: str
    """An embedded model's name, or a model folder."""

    image: NDArray[np.uint8]
    """(H, W, 3) the image that every round uses."""

    prompts: tuple[int, ...] = (1, 64)
    """Points of a call, one measurement each; three masks a point."""

    everything: int = 0
    """Points per side of everything mode, or 0 to leave it out."""

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0
    rule: StoppingRule = field(default_factory=StoppingRule)


@dataclass(frozen=True, slots=True)
class Result:
    """All measurements of one model on one machine."""

    measurements: tuple[Measurement, ...]
    peak_bytes: Mapping[str, int | None]
    """Most resident memory above the loaded, warm model, by measurement; None if not known."""

    cold: Mapping[str, float]
    """Milliseconds in a fresh process, one run: start, import, load, embed, first mask, total."""

    about: Mapping[str, Any]
    """Model, backend, device, precision, threads, image, machine and versions."""

    gflop: Mapping[str, float] = field(default_factory=dict)
    """Thousand million operations of a call, by measurement, where they are known."""

    peak: PeakRates | None = None
    """Measured peak of the processor in float32 with as many threads; None for another device."""

    def gflops(self, name: str) -> float | None:
        """Return the GFLOP/s of a measurement at its median; None where unknown."""
        if name not in self.gflop:
            return None
        one = next(one for one in self.measurements if one.name == name)
        return self.gflop[name] / one.stages["total"].percentile(50) * 1e3

    def share_of_peak(self, name: str) -> float | None:
        """Return the rate as a share of the float32 peak; None where either is unknown."""
        rate = self.gflops(name)
        return None if rate is None or self.peak is None else rate / self.peak.multiply_add

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            **self.about,
            "measurements": [
                {
                    **one.as_dict(),
                    "gflops": self.gflops(one.name),
                    "share_of_fp32_peak": self.share_of_peak(one.name),
                }
                for one in self.measurements
            ],
            "fp32_peak_gflops": None if self.peak is None else self.peak._asdict(),
            "peak_bytes_above_loaded": dict(self.peak_bytes),
            "cold_ms": {"state": "cold", "runs": 1, **self.cold},
        }


def bench(plan: BenchmarkPlan, *, progress: Callable[[str], None] = lambda _: None) -> Result:
    """Measure a model: embedding, prompts on an embedding, everything mode, and a cold start.

    Args:
        plan: The model, image and calls.
        progress: Told the name of each measurement as it begins.

    Raises:
        FastsegError: The model cannot be loaded, or does not run.
    """
    progress("cold start")
    cold = cold_start(plan)
    measurements: list[Measurement] = []
    gflop: dict[str, float] = {}
    peaks: dict[str, int | None] = {}
    choice = Choice(plan.device, plan.backend, plan.precision, plan.threads)
    with load_sam(plan.model, choice) as model:
        for call in _calls(plan, model):
            progress(call.name)
            measurements.append(_measure(call, plan.rule))
            with peak_memory() as memory:
                call.run()
            peaks[call.name] = memory.above
            if call.gflop is not None:
                gflop[call.name] = call.gflop
        about = describe(model, plan)
        peak = float32_peak(plan.threads) if model.device == "cpu" else None
    return Result(tuple(measurements), peaks, cold, about, gflop, peak)


def describe(model: Sam, plan: BenchmarkPlan) -> dict[str, Any]:
    """Return what the numbers of a plan depend on, ready for JSON."""
    height, width = plan.image.shape[:2]
    return {
        **model.provenance(),
        "threads": plan.threads or environment.usable_cores(),
        "images_per_batch": 1,
        "picture": {"width": width, "height": height},
        "machine": environment.machine(),
        "versions": environment.versions(),
    }


def cold_start(plan: BenchmarkPlan) -> dict[str, float]:
    """Time a fresh Python process from its start to its first mask, once.

    The operating system's file cache is left as it is.

    Returns:
        Milliseconds of ``start`` (the interpreter), ``import`` (of fastseg), ``load`` (the model,
        its hashes included), ``embed``, ``first_mask``, and their sum ``total``.

    Raises:
        BackendError: The process failed; the message ends with the last line of its error output.
    """
    choice = {
        "device": plan.device,
        "backend": plan.backend,
        "precision": plan.precision,
        "threads": plan.threads,
    }
    wanted = {
        "model": plan.model,
        "choice": choice,
        "shape": plan.image.shape,
        "began": time.monotonic(),
    }
    script = [sys.executable, "-c", _COLD_START, json.dumps(wanted)]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run(  # noqa: S603 - our own interpreter and our own script
        script, input=plan.image.tobytes(), capture_output=True, env=variables, check=False
    )
    if run.returncode != 0:
        last = run.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise BackendError(f"the cold start of {plan.model} failed: {' '.join(last)}")
    stages: dict[str, float] = json.loads(run.stdout)
    return {**stages, "total": sum(stages.values())}


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    prompts: int
    run: Callable[[], Embedding | Masks]
    gflop: float | None = None


def _calls(plan: BenchmarkPlan, model: Sam) -> Iterator[_Call]:
    """Give the calls of a plan, in order."""
    known = Arithmetic.of(model.manifest, model.runs.get("decoder", ""))
    gflop = None if known is None else known.embedding_gflop
    yield _Call("embed", 0, lambda: model.embed(plan.image), gflop)
    embedding = model.embed(plan.image)
    if not model.rules.prompts.any:
        yield _Call("segment, no prompt", 1, partial(model.segment, embedding))
        return
    for count in plan.prompts:
        points = spread_points(count, plan.image.shape[:2])
        prompts, word = {"points": points[:, None]}, "click"
        if not model.rules.prompts.points:
            prompts, word = {"boxes": np.concatenate([points - 8, points + 8], axis=1)}, "box"
        plural = "clicks" if word == "click" else "boxes"
        name = f"segment, 1 {word}" if count == 1 else f"segment, {count} {plural}"
        gflop = None if known is None else known.points_gflop(count)
        yield _Call(name, count, partial(model.segment, embedding, **prompts), gflop)
    if (side := plan.everything) and model.rules.prompts.points:
        run = partial(model.everything, plan.image, points_per_side=side)
        yield _Call(f"everything, {side} x {side}", side * side, run)


def spread_points(count: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """Spread ``count`` points evenly over an image of (height, width): (count, 2), x before y."""
    side = int(np.ceil(np.sqrt(count)))
    grid = point_grid(side)
    chosen = grid[np.linspace(0, len(grid) - 1, count).round().astype(int)]
    points: NDArray[np.float64] = chosen * np.array([size[1], size[0]])
    return points


def _measure(call: _Call, rule: StoppingRule) -> Measurement:
    made = 0

    def one_round() -> Stages:
        nonlocal made
        result = call.run()
        made = len(result) if isinstance(result, Masks) else 0
        timings = result.timings
        return {stage: getattr(timings, stage) for stage in STAGES if getattr(timings, stage) > 0}

    measured = repeat(call.name, one_round, rule, prompts=call.prompts)
    return replace(measured, masks=made)


# The first mark is the parent's: the monotonic clock is one for all processes.
_COLD_START = """
import json, sys, time
wanted = json.loads(sys.argv[1])
took, last = {}, wanted["began"]
def mark(name):
    global last
    now = time.monotonic()
    took[name], last = 1e3 * (now - last), now
mark("start")
from fastseg import load
mark("import")
model = load(wanted["model"], **wanted["choice"])
mark("load")
import numpy
image = numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8).reshape(wanted["shape"])
embedding = model.embed(image)
mark("embed")
height, width = image.shape[:2]
prompt = {"points": [width / 2, height / 2]}
if not model.rules.prompts.points:
    prompt = {"boxes": [0, 0, width, height]} if model.rules.prompts.boxes else {}
model.segment(embedding, **prompt, multimask=False)
mark("first_mask")
print(json.dumps(took))
"""
