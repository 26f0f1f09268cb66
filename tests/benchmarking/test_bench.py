"""Promises of ``fastseg.benchmarking.bench`` and ``fastseg bench``, on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.artifacts.manifest import to_json
from fastseg.artifacts.rules import PromptRules, Rules
from fastseg.benchmarking.arithmetic import Arithmetic, low_rank_point_gmac
from fastseg.benchmarking.bench import BenchmarkPlan, Result, bench, cold_start, spread_points
from fastseg.benchmarking.repetition import Measurement, Spread, StoppingRule
from fastseg.cli.root import run
from fastseg.errors import BackendError
from fastseg.ops import PeakRates
from fastseg.testing import tiny_sam_folder

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
QUICK = StoppingRule(warm_up=1, min_rounds=2, max_rounds=3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


def test_every_stage_of_every_call_is_measured(tiny: str) -> None:
    said: list[str] = []
    plan = BenchmarkPlan(tiny, IMAGE, prompts=(1, 5), everything=3, rule=QUICK)
    result = bench(plan, progress=said.append)
    by_name = {one.name: one for one in result.measurements}
    assert said == ["cold start", *by_name]
    assert set(by_name["embed"].stages) == {"preprocess", "encode", "total"}
    assert set(by_name["segment, 5 clicks"].stages) == {"decode", "postprocess", "total"}
    assert len(by_name["everything, 3 x 3"].stages) == 5
    assert by_name["segment, 5 clicks"].masks == 15
    assert by_name["segment, 5 clicks"].per_mask_ms > 0
    assert by_name["embed"].per_mask_ms is None
    assert set(result.peak_bytes) == set(by_name)
    assert result.peak.multiply_add > 1
    assert result.gflops("embed") is result.share_of_peak("embed") is None  # not of SAM's sizes


def test_a_model_that_takes_no_points_is_measured_by_boxes(tmp_path: Path) -> None:
    folder = tiny_sam_folder(tmp_path / "boxes")
    rules = Rules(PromptRules(points=False, masks=False, alternatives=False))
    manifest = replace(artifacts.read(folder).manifest, rules=rules)
    (folder / artifacts.MANIFEST_FILE).write_text(to_json(manifest))
    result = bench(BenchmarkPlan(str(folder), IMAGE, prompts=(1, 5), everything=3, rule=QUICK))
    masks = {one.name: one.masks for one in result.measurements}
    assert masks == {"embed": 0, "segment, 1 box": 1, "segment, 5 boxes": 5}
    assert result.cold["first_mask"] > 0


def test_the_rate_of_a_known_model_is_a_share_of_the_measured_peak() -> None:
    rounds = Spread(np.array([90.0, 100.0, 110.0]))
    embed = Measurement("embed", {"total": rounds}, stable=True)
    peak = PeakRates(multiply_add=100.0, product=90.0)
    gflop = Arithmetic(encoder_gmac=2.596).embedding_gflop  # with the image's state 6
    result = Result((embed,), {}, {}, {}, {"embed": gflop}, peak)
    assert result.gflops("embed") == pytest.approx(60)
    assert result.share_of_peak("embed") == pytest.approx(0.6)
    told = result.as_dict()
    assert told["measurements"][0]["share_of_fp32_peak"] == pytest.approx(0.6)
    assert told["fp32_peak_gflops"] == {"multiply_add": 100.0, "product": 90.0}
    assert replace(result, peak=None).share_of_peak("embed") is None


def test_the_embedded_model_tells_its_arithmetic() -> None:
    manifest = artifacts.read(registry.find("sam-nano")).manifest
    known = Arithmetic.of(manifest)
    assert known is not None
    assert known.points_gflop(64) == pytest.approx(64 * known.points_gflop(1))
    assert Arithmetic.of(replace(manifest, source={"kind": "other"})) is None
    low_rank = Arithmetic.of(manifest, "native:cpu fp32")
    assert low_rank is not None
    assert low_rank.points_gflop(1) == pytest.approx(2 * 0.4037, rel=2e-3)
    assert low_rank_point_gmac(drawn=False) == pytest.approx(0.1600, rel=2e-3)
    assert low_rank_point_gmac(masks=False) == pytest.approx(0.1280, rel=2e-3)
    assert low_rank.embedding_gflop > known.embedding_gflop
    assert Arithmetic.of(manifest, "native:cpu bf16") == known


def test_a_cold_start_is_timed_step_by_step_in_another_process(tiny: str) -> None:
    took = cold_start(BenchmarkPlan(tiny, IMAGE))
    assert list(took) == ["start", "import", "load", "embed", "first_mask", "total"]
    assert all(value > 0 for value in took.values())
    assert took["total"] == pytest.approx(sum(took.values()) / 2)


def test_a_cold_start_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no-such-model"):
        cold_start(BenchmarkPlan(str(tmp_path / "no-such-model"), IMAGE))


@pytest.mark.parametrize("count", [1, 2, 7, 64, 100])
def test_points_are_spread_inside_the_image(count: int) -> None:
    points = spread_points(count, (60, 80))
    assert len(np.unique(points, axis=0)) == count
    assert (points > 0).all()
    assert (points < [80, 60]).all()


def test_every_number_carries_its_environment(tiny: str, capsys) -> None:
    call = ["bench", tiny, "--prompts", "2", "--max-seconds", "0.01", "--threads", "1", "--json"]
    assert run(call) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["backend"] == "onnxruntime"
    assert document["device"] == "cpu"
    assert document["precision"] == "fp32"
    assert document["threads"] == 1
    assert document["images_per_batch"] == 1
    assert document["machine"]["cpu"]
    assert document["versions"]["onnxruntime"]
    assert document["cold_ms"]["state"] == "cold"
    for one in document["measurements"]:
        assert one["state"] == "warm"
        assert isinstance(one["stable"], bool)
        assert set(one["stages"]["total"]) == {"p50_ms", "p90_ms", "p99_ms", "half_width", "rounds"}


def test_the_table_marks_unstable_measurements_plainly(tiny: str, capsys) -> None:
    assert run(["bench", tiny, "--max-seconds", "0.001", "--tolerance", "0.0001"]) == 0
    shown = capsys.readouterr().out
    assert "unstable" in shown
    assert "float32 peak" in shown
    assert "inf%" not in shown
