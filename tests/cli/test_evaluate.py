"""Promises of ``fastseg evaluate``: its files, its page, its exit codes."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.cli.root import run
from fastseg.evaluation import read_dataset
from fastseg.evaluation.journal import SUFFIX
from fastseg.testing import tiny_sam_folder

pytest.importorskip("jinja2", reason="the page needs the extra report")
pytest.importorskip("matplotlib", reason="the page needs the extra report")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a moment, where masks do not matter."""
    return tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four bright objects of two classes on two images."""
    folder = tmp_path / "scenes"
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 40, (2, 96, 128), np.uint8)
    for number, grey in enumerate(noise):
        labels = np.zeros((96, 128), np.uint8)
        labels[20:60, 10 + 8 * number : 60] = 1
        labels[50:90, 80:120] = 2
        Image.fromarray(grey + 90 * labels).save(folder / "images" / f"s{number}.png")
        Image.fromarray(labels).save(folder / "masks" / f"s{number}.png")
    return folder


def call(*words: object) -> int:
    return run([str(word) for word in words])


def rows_of(out: Path, name: str = "scores.csv") -> list[dict[str, str]]:
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_points_leave_scores_times_summary_and_a_page(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("evaluate", "points", data, "--count", 2, "--slot", "first", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "mean over tasks" in printed
    names = ["report.html", "scores.csv", "summary.json", "times.csv"]
    assert sorted(one.name for one in out.iterdir() if not one.name.startswith(".")) == names
    rows = rows_of(out)
    assert [row["task"] for row in rows] == ["class 1", "class 2"] * 2
    assert all(len(json.loads(row["prompt"])) == 2 for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    mean = np.mean([float(row["iou 2"]) for row in rows])
    (condition,) = summary["conditions"]
    assert condition["scores"]["iou 2"]["samples"]["mean"] == pytest.approx(mean)
    assert mean > 0.8
    assert [row["image"] for row in rows_of(out, "times.csv")] == ["s0", "s1"]
    assert not list(tmp_path.glob(f".*{SUFFIX}"))


def test_scores_are_the_same_bytes_for_a_seed(data, tiny, tmp_path):
    words = ("evaluate", "points", data, "--model", tiny, "--count", 2, "--no-page", "--seed", 3)
    for threads in (1, 2):
        assert call(*words, "--threads", threads, "--out", tmp_path / f"out{threads}") == 0
    one, two = ((tmp_path / f"out{n}" / "scores.csv").read_bytes() for n in (1, 2))
    assert one == two


def test_the_page_needs_no_network_and_describes_its_figures(data, tmp_path):
    out = tmp_path / "out"
    assert call("evaluate", "modes", data, "--slot", "first", "--out", out) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"@import|url\(|<script", page)
    texts = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert len(texts) == page.count("<img")
    assert all(len(text) > 20 for text in texts)
    assert "0.461" in page  # SAM ViT-H in mode 1, as published
    assert page.count("<html lang=") == page.count("</html>") == 1


def test_two_models_stand_side_by_side(data, tiny, tmp_path, capsys):
    words = ("--model", "sam-nano", "--model", tiny, "--out", tmp_path / "out")
    assert call("evaluate", "boxes", data, *words) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len({one["model"] for one in summary["models"]}) == 2
    capsys.readouterr()


def test_an_image_without_a_mask_is_named_and_the_rest_is_done(data, tiny, tmp_path, capsys):
    Image.new("L", (9, 9)).save(data / "images" / "lonely.png")
    out = tmp_path / "out"
    assert call("evaluate", "centroid", data, "--model", tiny, "--out", out, "--no-page") == 1
    assert "lonely.png has no mask" in capsys.readouterr().err
    assert len(rows_of(out)) == 4 * 3
    assert "lonely.png" in json.loads((out / "summary.json").read_text())["faults"][0]


def test_mm_without_a_spacing_are_refused_and_with_one_are_taken(data, tiny, capsys):
    assert call("evaluate", "boxes", data, "--model", tiny, "--unit", "mm") == 1
    assert "--spacing" in capsys.readouterr().err
    assert (
        call(
            "evaluate",
            "boxes",
            data,
            "--model",
            tiny,
            "--unit",
            "mm",
            "--spacing",
            0.5,
            0.5,
            "--json",
        )
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    scores = document["conditions"][0]["scores"]
    assert {"hd95 mm", "surface dice 2 mm"} <= set(scores)


def test_a_second_run_needs_overwrite_and_a_foreign_folder_is_never_replaced(
    data, tiny, tmp_path, capsys
):
    words = ("evaluate", "centroid", data, "--model", tiny, "--no-page", "--out", tmp_path / "out")
    assert call(*words) == 0
    assert call(*words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert call(*words, "--overwrite") == 0
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert call(*words, "--overwrite") == 2
    assert "mine.txt" in capsys.readouterr().err


def test_a_run_that_was_interrupted_goes_on_only_if_asked(data, tiny, tmp_path, capsys):
    journal = tmp_path / f".out{SUFFIX}"
    words = ("evaluate", "centroid", data, "--model", tiny, "--no-page", "--out", tmp_path / "out")
    journal.write_text('{"protocol": "centroid"}\n')
    assert call(*words) == 2
    assert "--resume" in capsys.readouterr().err
    assert call(*words, "--resume") == 2
    assert "another settings" in capsys.readouterr().err
    journal.unlink()
    assert call(*words, "--resume") == 0


def test_without_the_extra_the_page_is_refused_before_anything_runs(
    data, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    words = ("evaluate", "centroid", data, "--model", tiny, "--out", tmp_path / "out")
    assert call(*words) == 2
    assert "--no-page" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert call(*words, "--no-page") == 0


def test_everything_counts_masks_and_found_objects(data, tiny, capsys):
    assert (
        call("evaluate", "everything", data, "--model", tiny, "--points-per-side", 4, "--json") == 0
    )
    document = json.loads(capsys.readouterr().out)
    scores = document["conditions"][0]["scores"]
    assert scores["recall 0.5"]["samples"]["n"] == 4
    assert [one["image"] for one in document["images"]] == ["s0", "s1"]


def test_a_name_of_any_bytes_reaches_every_file(data, tiny, tmp_path):
    for inside in ("images", "masks"):
        (data / inside / "s0.png").rename(data / inside / os.fsdecode(b"s\xff<b>.png"))
    assert call("evaluate", "centroid", data, "--model", tiny, "--out", tmp_path / "out") == 0
    assert {row["image"] for row in rows_of(tmp_path / "out")} == {"s1", "s\\xff<b>"}
    assert "<b>" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_two_folders_of_one_model_name_keep_their_own_journal(data, tiny, tmp_path):
    other = shutil.copytree(tiny, tmp_path / "other")
    words = ("--model", tiny, "--model", other, "--no-page", "--out", tmp_path / "out")
    assert call("evaluate", "centroid", data, *words) == 0
    assert len({row["model"] for row in rows_of(tmp_path / "out")}) == 2


def test_phases_of_a_case_are_aggregated(data, tiny, tmp_path, capsys):
    rows = [f"images/{n}.png,masks/{n}.png,tumour,1,patient,{n}" for n in ("s0", "s1")]
    lines = ["image,mask,class,value,case,phase", *rows, ""]
    (data / "pairs.csv").write_text("\n".join(lines))
    words = ("--points", 1, "--points", 3, "--resolution", 64, "--out", tmp_path / "out")
    assert call("evaluate", "phases", data / "pairs.csv", "--model", tiny, *words) == 0
    rows = rows_of(tmp_path / "out")
    variants = [f"P {count}, R 64, {how}" for count in (1, 3) for how in ("avg", "max")]
    assert [row["variant"] for row in rows] == variants
    assert all(row["image"] == "patient" for row in rows)
    assert float(rows[1]["dice"]) >= float(rows[0]["dice"])
    assert "T(P, R, M)" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    [("points", "--count", "0"), ("boxes", "--margin", "-1"), ("centroid", "--slot", "human")],
)
def test_a_bad_call_runs_nothing(data, words, capsys):
    protocol, *rest = words
    assert call("evaluate", protocol, data, *rest) == 2


def test_nothing_to_evaluate_is_an_error(data, tmp_path, capsys):
    for mask in (data / "masks").iterdir():
        Image.new("L", (128, 96)).save(mask)
    assert call("evaluate", "centroid", data, "--out", tmp_path / "out") == 1
    assert "every truth is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def structures() -> Path:
    """CT images with 30 structures, for tests alone and so not part of the project."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "medical" / "truth" / "ct"
    if not folder.is_dir():
        pytest.skip("needs the CT structures in ../shared/data/medical/truth/ct")
    return folder


def test_structures_of_tomograms_are_read_as_30_objects(structures):
    dataset = read_dataset(structures)
    assert len(dataset.examples) == 4
    assert sum(len(example.sources) for example in dataset.examples) == 30
    assert [fault.split("/")[-1] for fault in dataset.faults] == [
        "amos_0507_31.png has no mask of its name."
    ]


@pytest.mark.slow
def test_the_card_of_sam_nano_prints_what_points_on_tomograms_give(structures, tmp_path, capsys):
    assert call("evaluate", "centroid", structures, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    first = document["conditions"][0]
    assert (first["variant"], first["slot"]) == ("centroid", "argmax")
    assert first["scores"]["iou"]["samples"]["mean"] == pytest.approx(0.402, abs=0.002)
