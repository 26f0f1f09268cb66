"""Throughput of cohorts: beside ``stream``, in processes, on Ray and its nodes; and 50 kills.

Run by ``python -m pytest benchmarks/test_cohort.py -s``. A ratio below its floor fails.
``FASTSEG_COHORT_IMAGES`` sets another number of images than 1000, and ``FASTSEG_COHORT_FIRST`` the
number of the first, for a run in several pieces. Ray gets a tenth of them, and at least 30.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg import cohort, environment
from fastseg.cohort.tasks import making
from fastseg.testing import tiny_sam_folder
from tests.cohort.test_cohort import (
    KILLED,
    everything,
    results,
    wait_for_journal,
    write_images,
)
from tests.helpers.cohort_tasks import TimedTask, ended
from tests.helpers.processes import running

IMAGES = int(os.environ.get("FASTSEG_COHORT_IMAGES", "1000"))
FIRST = int(os.environ.get("FASTSEG_COHORT_FIRST", "0"))
BLOCK = 10
"""Images that one contender gets in its turn."""

LEAST = 0.95
"""Least throughput of a cohort as a share of ``stream``."""

LEAST_RAY = 0.85
"""Least throughput of two actors of Ray as a share of two processes."""

LEAST_SHARE = 0.25
"""Least share of the images that each of two nodes of Ray does."""

KILLS = 50

BOX = [20.0, 20.0, 200.0, 150.0]


@pytest.fixture(scope="module")
def model() -> Iterator[fastseg.Sam]:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    with fastseg.load("sam-nano", precision="fp32") as loaded:
        print("\n" + environment.line())
        print({*loaded.runs.values()})
        yield loaded


def write_items(folder: Path, number: int) -> list[cohort.Item]:
    """Write small images, each with a box."""
    items = []
    for at in range(FIRST, FIRST + number):
        pixels = np.random.default_rng(at).integers(0, 256, (192, 256, 3), dtype=np.uint8)
        file = folder / f"{at:04}.png"
        Image.fromarray(pixels).save(file)
        items.append(cohort.Item(str(file), boxes=[BOX]))
    return items


def timed(model: fastseg.Sam, given: dict[str, Any], kept: Path | None) -> TimedTask:
    given = {"multimask": True, "best": False, **given}
    return TimedTask(settings=given, max_pixels=None, model=model, embeddings=kept)


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def print_time(name: str, elapsed: float, images: int) -> None:
    print(f"{name:30} {1e3 * elapsed / images:8.1f} ms an image  {images / elapsed:6.2f} images/s")


def test_a_cohort_is_as_fast_as_a_stream(model, tmp_path: Path) -> None:
    items, numbers = write_items(tmp_path, IMAGES), count()

    def stream(part: list[cohort.Item]) -> None:
        files = [item.path for item in part]
        assert len(list(model.stream(files, boxes=[[BOX]] * len(part)))) == len(part)

    def journaled(part: list[cohort.Item]) -> None:
        out = tmp_path / f"out{next(numbers)}"
        assert all(one.status == "done" for one in cohort.run(part, model, out=out))

    contenders = {"stream": stream, "cohort": journaled}
    for run in contenders.values():
        run(items[:2])
    spent = dict.fromkeys(contenders, 0.0)
    for start in range(0, IMAGES, BLOCK):
        part = items[start : start + BLOCK]
        order = list(contenders)[:: 1 if start // BLOCK % 2 else -1]
        for name in order:
            spent[name] += seconds(lambda name=name, part=part: contenders[name](part))
    print(f"{IMAGES} images of 256 x 192 from {FIRST}, a box each, in turns of {BLOCK}")
    for name, each in spent.items():
        print_time(name, each, IMAGES)
    share = spent["stream"] / spent["cohort"]
    print(f"cohort / stream {share:.3f}")
    assert share >= LEAST


def test_actors_of_ray_are_as_fast_as_processes(model, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("ray", reason="needs the extra cohort")
    images = max(IMAGES // 10, 30)
    items, first = write_items(tmp_path, images), images // 3

    def measured(**options: Any) -> tuple[float, float]:
        """Time workers from a third of the images on, when all of them have begun, and in all."""
        begin = time.time()
        out = tmp_path / str(len(options))
        whole = 0.0
        for outcome in cohort.run(items, model, out=out, workers=2, **options):
            assert outcome.status == "done"
            whole = time.time() - begin
        ends = sorted(ended(item.path).stat().st_mtime for item in items)
        print(f"first image after {ends[0] - begin:.1f} s, all results after {whole:.1f} s")
        return begin + whole - ends[first - 1], whole

    monkeypatch.setitem(making._PROMPTED, "segment", timed)
    contenders = {"two processes": {}, "two actors of Ray": {"engine": "ray"}}
    spent = {name: measured(**options) for name, options in contenders.items()}
    print(f"{images} images of 256 x 192, a box each; 1 thread a worker")
    for name, (steady, whole) in spent.items():
        print_time(name, steady, images - first)
        print_time(f"{name}, with start", whole, images)
    (share, with_start) = (a / b for a, b in zip(*spent.values(), strict=True))
    print(f"Ray / processes {share:.3f}; with the start of both {with_start:.3f}")
    assert share >= LEAST_RAY


def test_two_nodes_of_ray_share_the_work(model, tmp_path: Path, monkeypatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra cohort")
    from ray.cluster_utils import Cluster

    ray.shutdown()
    items = write_items(tmp_path, max(IMAGES // 20, 30))
    monkeypatch.setitem(making._PROMPTED, "segment", timed)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        settings = cohort.RaySettings(address=nodes.address)
        run = cohort.run(
            items, model, out=tmp_path / "nodes", engine="ray", workers=2, ray=settings
        )
        assert all(one.status == "done" for one in run)
    finally:
        ray.shutdown()
        nodes.shutdown()
    done = Counter(ended(item.path).read_text() for item in items)
    list(cohort.run(items, model, out=tmp_path / "here"))
    shares = ", ".join(f"{count} images" for count in done.values())
    print(f"{len(items)} images on {len(done)} nodes of a processor each: {shares}")
    assert len(done) == 2
    assert min(done.values()) >= LEAST_SHARE * len(items)
    assert results(tmp_path / "nodes") == results(tmp_path / "here")


def test_killed_at_fifty_random_moments_a_cohort_ends_with_the_same_bytes(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 400)[0].parent
    folder = tiny_sam_folder(tmp_path / "tiny")
    out, rng, done = tmp_path / "out", random.Random(0), 0
    words = [sys.executable, "-c", KILLED, folder, images, out, 10**9]
    for _ in range(KILLS):
        with running(words) as process:
            wait_for_journal(out, process, min(done + 1, 400))
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
        done = (out / "journal.jsonl").read_bytes().count(b"\n")
    with fastseg.load(folder) as tiny:
        outcomes = everything(images, tiny, out, resume=True)
        everything(images, tiny, tmp_path / "whole")
    kept = sum(one.status == "kept" for one in outcomes)
    print(f"\n{KILLS} times kill -9: {kept} of 400 results were kept, all are equal byte for byte")
    assert 0 < kept < 400
    assert results(out) == results(tmp_path / "whole")
    shutil.rmtree(out)
