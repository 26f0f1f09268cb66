"""Commands that serve SAM serve RITM by the same words, and others say what it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg import cohort
from fastseg.cli.root import run
from fastseg.errors import CohortError, ModelFolderError
from fastseg.evaluation import Points, evaluate, read_dataset
from fastseg.inference.sessions import Choice
from fastseg.loading import load_sam
from fastseg.testing import tiny_sam_folder


def call(*words: object) -> int:
    return run([str(word) for word in words])


@pytest.fixture
def data(tmp_path) -> Path:
    """Two images with an object each."""
    folder = tmp_path / "scenes"
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 40, (2, 48, 64), np.uint8)
    for number, grey in enumerate(noise):
        labels = np.zeros((48, 64), np.uint8)
        labels[10:30, 10 + 8 * number : 40] = 1
        Image.fromarray(grey + 90 * labels).save(folder / "images" / f"s{number}.png")
        Image.fromarray(labels).save(folder / "masks" / f"s{number}.png")
    return folder


def test_segment_takes_points_and_refuses_boxes(tiny_ritm, data, tmp_path, capsys):
    image, out = data / "images" / "s0.png", tmp_path / "out"
    points = ("--point", 20, 20, "--point", 5, 5, "--label", 1, "--label", 0)
    assert call("segment", image, "--model", tiny_ritm, *points, "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["pictures"][0]["masks"]) == ("tiny-ritm", 1)
    (annotation,) = json.loads((out / "masks.json").read_text())["annotations"]
    with fastseg.load(tiny_ritm) as model:
        masks = model.segment(image, points=[[20, 20], [5, 5]], labels=[1, 0])
    assert annotation["area"] == masks.areas[0]
    assert call("segment", image, "--model", tiny_ritm, "--box", 1, 1, 9, 9) == 1
    assert "It takes points" in capsys.readouterr().err


def test_everything_takes_it_and_prototypes_do_not(tiny_ritm, data, tmp_path, capsys):
    image = data / "images" / "s0.png"
    grid = ("--points-per-side", 2, "--stability-score-thresh", 0)
    assert call("everything", image, "--model", tiny_ritm, *grid, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pictures"][0]["points_decoded"] == 4
    file = tmp_path / "prototypes.npz"
    assert call("everything", image, "--model", tiny_ritm, "--prototypes", file) != 0
    assert "image embeddings" in capsys.readouterr().err


def test_both_families_are_evaluated_side_by_side(tiny_ritm, data, tmp_path):
    out, sam = tmp_path / "out", tiny_sam_folder(tmp_path / "tiny-sam")
    words = ("--model", sam, "--model", tiny_ritm, "--count", 3, "--no-page")
    assert call("evaluate", "points", data, *words, "--out", out) == 0
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["model"] for row in rows}) == 2
    assert {"noc80", "noc85", "noc90"} <= set(rows[0])


def test_each_point_lies_in_the_error_of_the_mask_before(tiny_ritm, data):
    dataset = read_dataset(data)
    with fastseg.load(tiny_ritm) as model:
        outcome = evaluate(Points(count=4, slots=("first",), neg_label="class"), dataset, model)
        assert not outcome.faults
        for row, example in zip(outcome.rows, dataset.examples, strict=True):
            image = np.asarray(Image.open(data / "images" / f"{example.name}.png"))
            truth = np.asarray(Image.open(data / "masks" / f"{example.name}.png")) == 1
            image = (image / image.max() * 255).astype(np.uint8)
            for count in range(1, 4):
                points = [point[:2] for point in row.prompt[:count]]
                labels = [point[2] for point in row.prompt[:count]]
                mask = model.segment(image, points=points, labels=labels).array()[0]
                x, y, label = row.prompt[count]
                assert mask[y, x] != truth[y, x]
                assert label == int(truth[y, x])


def test_a_cohort_runs_both_tasks(tiny_ritm, data, tmp_path):
    grid = {"points_per_side": 2, "stability_score_thresh": 0.0}
    item = cohort.Item(str(data / "images" / "s0.png"), points=[[[20, 20]]])
    with fastseg.load(tiny_ritm) as model:
        (done,) = cohort.run(item, model, out=tmp_path / "points")
        assert done.masks == 1
        done = list(
            cohort.run(
                data / "images", model, out=tmp_path / "grid", task="everything", settings=grid
            )
        )
        assert [one.error for one in done] == [None, None]
    with fastseg.load("echo-a4c") as unet, pytest.raises(CohortError, match="takes prompts"):
        list(cohort.run(item, unet, out=tmp_path / "none"))


def test_commands_that_need_an_embedding_name_those_that_do_not(tiny_ritm):
    with pytest.raises(ModelFolderError, match=r"no image embedding.*fastseg segment"):
        load_sam(tiny_ritm, Choice())


@pytest.mark.slow
def test_a_comparison_of_two_runtimes_holds(tiny_ritm, capsys):
    pytest.importorskip("openvino", reason="openvino is not installed")
    words = ("--a", "onnxruntime:fp32", "--b", "openvino:fp32", "--json")
    assert call("compare", tiny_ritm, *words) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_doctor_and_models_know_the_family(tiny_ritm, capsys):
    assert call("models", "verify", tiny_ritm) == 0
    capsys.readouterr()
    assert call("models", "--json") == 0
    cards = {card["name"]: card for card in json.loads(capsys.readouterr().out)["models"]}
    assert cards["ritm-coco-lvis-h18s"]["prompts"] == "points"
