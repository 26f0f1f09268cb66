"""The side-by-side table is fair or refused, and loud when a ratio falls."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the references need torch")
pytest.importorskip("skimage", reason="the photograph comes with scikit-image")

from benchmarks.table import __main__ as table
from benchmarks.table import guards, plots, report
from benchmarks.table.rows import ROWS
from benchmarks.table.store import Cell, Job, Store, about, differences
from fastseg.environment import install_hint, usable_cores

OTHERS = ("official ONNX", "fastseg fp32")


def cell(row: str, contender: str, ms: float, **changes) -> Cell:
    made = Cell(row, contender, usable_cores(), [ms] * 3, 5 * 10**8, 7, "cpu", "", about())
    return replace(made, **changes)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    store = Store(tmp_path / "cells")
    for contender, ms in (("torch fp32", 3000), ("official ONNX", 900), ("fastseg fastest", 30)):
        store.keep(cell("vit-b/prompts-64", contender, ms))
    return tmp_path


def test_a_table_is_printed_from_what_lies_in_the_folder(measured, capsys):
    assert table.main(["--out", str(measured), "--print-only"]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "64 prompts after" in line)
    assert [word for word in line.split() if word.startswith("**")] == ["**100.0**", "**30.0**"]
    assert (measured / "table.md").read_text() == printed
    assert about()["commit"] in printed
    assert "Not measured: torch bf16, fastseg fp32" in printed


def test_a_cell_tells_its_rate_as_a_share_of_the_measured_peak():
    rows = {row.name: row for row in ROWS}
    for name, gflop in (("vit-b/prompts-64", 117.9), ("vit-b/mask", 1.842), ("vit-b/encoder", 942)):
        row = rows[name]
        whole = cell(name, "fastseg fp32", 1e3 * gflop / row.per / 50, peak_gflops=200.0)
        rate, share = report.rate(row, whole)
        assert (rate, share) == ("50.0", "25%")
        assert report.rate(row, replace(whole, peak_gflops=None))[1] == ""
    point = cell("vit-b/prompts-1", "fastseg fp32", 10, peak_gflops=200.0)
    for ran, rate in (
        ("native fp32", 80.7),
        ("onnxruntime+native fp32", 80.7),
        ("native bf16", 184),
    ):
        found, _ = report.rate(rows["vit-b/prompts-1"], replace(point, ran=ran))
        assert float(found) == pytest.approx(rate, rel=5e-3)
    assert report.rate(rows["vit-b/everything-2"], whole) == ("", "")
    assert report.rate(rows["unet-16/frames-8"], whole) == ("", "")


def test_cells_of_different_environments_share_no_table(measured, capsys):
    elsewhere = {**about(), "cpu": "another processor"}
    Store(measured / "cells").keep(cell("vit-b/encoder", "torch fp32", 9, about=elsewhere))
    assert table.main(["--out", str(measured), "--print-only"]) == 1
    assert "another processor" in capsys.readouterr().err


def test_the_time_alone_makes_no_difference():
    earlier = cell("vit-b/encoder", "torch fp32", 9, about={**about(), "time": "yesterday"})
    assert differences([earlier, cell("vit-b/encoder", "torch bf16", 9)]) == []


def test_the_commit_counts_for_cells_of_fastseg_alone():
    before = {**about(), "commit": "before"}
    reference = cell("vit-b/encoder", "torch fp32", 9, about=before)
    ours = cell("vit-b/encoder", "fastseg fp32", 3)
    assert differences([reference, ours]) == []
    (told,) = differences([ours, cell("vit-b/prompts-8", "fastseg fp32", 3, about=before)])
    assert told.startswith("commit")


def test_cells_of_other_threads_stay_out_of_the_table(measured, capsys):
    Store(measured / "cells").keep(cell("vit-b/encoder", "torch fp32", 9, threads=99))
    assert table.main(["--out", str(measured), "--print-only"]) == 0
    assert "encoder" not in capsys.readouterr().out


@pytest.mark.parametrize("floor", guards.FLOORS, ids=lambda floor: f"{floor.row} {floor.fast}")
def test_a_ratio_that_falls_is_told(floor):
    slow = cell(floor.row, floor.slow, 1000.0)
    enough = cell(floor.row, floor.fast, 1000.0 / floor.least * 0.99)
    too_slow = cell(floor.row, floor.fast, 1000.0 / floor.least * 1.01)
    assert list(guards.broken([slow, enough])) == []
    (told,) = guards.broken([slow, too_slow])
    assert floor.row in told


def test_a_broken_guard_fails_the_command(measured, capsys):
    floor = guards.FLOORS[0]
    store = Store(measured / "cells")
    store.keep(cell(floor.row, floor.slow, 1.0))
    store.keep(cell(floor.row, floor.fast, 1000.0))
    assert table.main(["--out", str(measured), "--print-only"]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_too_much_memory_is_told():
    ceiling = guards.CEILINGS[0]
    held = cell(ceiling.row, ceiling.contender, 1.0, peak_bytes=ceiling.most_bytes + 1)
    (told,) = guards.broken([held])
    assert "above the loaded model" in told


def test_guards_are_about_rows_and_contenders_that_exist():
    contenders = {row.name: row.contenders for row in ROWS}
    for floor in guards.FLOORS:
        assert {floor.fast, floor.slow} <= set(contenders[floor.row])
    for ceiling in guards.CEILINGS:
        assert ceiling.contender in contenders[ceiling.row]


def test_a_job_survives_the_way_to_its_process(tmp_path):
    job = Job(tmp_path, "torch fp32", ("vit-b/encoder",), 2, short=True)
    assert Job.from_json(job.to_json()) == job


@pytest.mark.parametrize(
    ("precisions", "contenders"),
    [
        (("fp32", "bf16"), ["torch fp32", "torch bf16", *OTHERS, "fastseg fastest"]),
        (("fp32",), ["torch fp32", *OTHERS]),
    ],
    ids=["bf16", "fp32"],
)
def test_jobs_are_one_process_a_model_and_contender_that_the_processor_runs(
    tmp_path, monkeypatch, capsys, precisions, contenders
):
    monkeypatch.setattr(table, "precisions", lambda: precisions)
    asked = table.parser().parse_args(
        ["--out", str(tmp_path), "--rows", "vit-b/prompts-*", "sam-nano/encoder"]
    )
    found = table.jobs(asked, tmp_path)
    assert [job.contender for job in found] == contenders * 2
    assert {len(job.rows) for job in found[: len(contenders)]} == {4}
    told = capsys.readouterr().err
    assert ("no instructions for bf16" in told) == ("bf16" not in precisions)


def test_cells_keep_their_order_and_numbers_their_digits():
    row = next(row for row in ROWS if row.name == "vit-b/encoder")
    cells = [cell(row.name, name, 1.0) for name in reversed(row.contenders)]
    assert [one.contender for one in report.of(row, cells)] == list(row.contenders)
    assert [report.number(ms) for ms in (1234.5, 12.34, 1.234)] == ["1234", "12.3", "1.23"]


@pytest.mark.parametrize("counts", [(2,), (1, 2)])
def test_growth_is_drawn_from_what_was_measured(counts, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need the extra plot")
    from PIL import Image

    cells = [
        cell(row, "fastseg fp32", 9.0 * amount / count, threads=count)
        for count in counts
        for amount, row in ((1, "vit-b/prompts-1"), (64, "vit-b/prompts-64"))
    ]
    plots.draw(cells, tmp_path)
    with Image.open(tmp_path / "growth.png") as drawn:
        assert drawn.width > drawn.height > 500


def test_plots_without_matplotlib_are_refused_before_measuring(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    monkeypatch.setattr(table, "run", lambda command: pytest.fail("it measured"))
    with pytest.raises(SystemExit) as ended:
        table.main(["--out", str(tmp_path), "--plots"])
    assert ended.value.code == 2
    assert install_hint("plot") in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_official_export_answers_as_the_predictor_does(tmp_path):
    pytest.importorskip("onnxruntime", reason="the export runs in onnxruntime")
    import torch

    from benchmarks.table import official_onnx
    from tests.helpers.reference_package import segment_anything
    from tests.helpers.reference_sam import nano_reference

    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    clicks = torch.tensor([[[200.0, 300.0]], [[700.0, 400.0]]])
    labels = torch.ones(2, 1, dtype=torch.int)
    sam = copy.deepcopy(nano_reference())  # the export and the predictor change the model
    expected = segment_anything().SamPredictor(sam)
    expected.set_image(image)
    masks, scores, low = expected.predict_torch(clicks, labels)
    official_onnx.export(sam, tmp_path)
    ours = official_onnx.predictor(sam, tmp_path, usable_cores())
    ours.set_image(image)
    found, found_scores, found_low = ours.predict_torch(clicks, labels)
    assert found.shape == masks.shape == (2, 3, 40, 60)
    assert (found != masks).float().mean() < 1e-3
    torch.testing.assert_close(found_scores, scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found_low, low, atol=1e-3, rtol=1e-3)
