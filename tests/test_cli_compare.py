"""Promises of ``fastseg.comparison`` and ``fastseg compare``, on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastseg import artifacts, comparison
from fastseg.artifacts import ModelFolder
from fastseg.cli.root import run
from fastseg.comparison import Answer, Question, Way
from fastseg.errors import BackendError
from fastseg.graphs import Choice
from fastseg.testing import tiny_sam_folder

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def question(tiny: ModelFolder) -> Question:
    return comparison.ask(IMAGE, tiny.manifest.picture)


@pytest.fixture(scope="module")
def answer(tiny: ModelFolder, question: Question) -> Answer:
    return comparison.run_graphs(tiny, Choice(), question)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = run([str(word) for word in words] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_model_agrees_with_itself(question: Question, answer: Answer) -> None:
    found = comparison.compare(question, answer, answer)
    assert found.within(max_relative=0.0, min_iou=1.0)
    assert found.kept[0] == found.kept[1] > 0, "the filters must have something to keep"


def test_clicks_and_boxes_lie_in_the_models_square(question: Question) -> None:
    assert question.pixels.shape == (1, 3, question.frame.side, question.frame.side)
    assert len(question.coords) == len(question.labels) == 8 * 8 + 4 * 4
    boxes = question.coords[question.labels[:, 0] == 2]
    assert (boxes[:, 0] < boxes[:, 1]).all()
    assert (question.coords >= 0).all()
    assert (question.coords <= question.frame.side).all()


def test_an_error_in_the_logits_is_seen(question: Question, answer: Answer) -> None:
    other = replace(answer, logits=answer.logits * np.float32(1.001))
    found = comparison.compare(question, answer, other)
    rows = {row.name: row for row in found.table.rows}
    assert rows["low_res_logits"].relative == pytest.approx(1e-3, rel=0.01)
    assert rows["embedding"].relative == 0.0
    assert not found.within(max_relative=1e-4, min_iou=0.9)
    assert found.within(max_relative=2e-3, min_iou=0.9)


def test_a_mask_that_changed_is_seen(question: Question, answer: Answer) -> None:
    logits = answer.logits.copy()
    logits[5, 1] = -logits[5, 1]
    found = comparison.compare(question, answer, replace(answer, logits=logits))
    assert not found.within(max_relative=np.inf, min_iou=0.5)


def test_masks_that_are_lost_are_counted(question: Question, answer: Answer) -> None:
    unsure = replace(answer, iou_predictions=answer.iou_predictions * 0)
    assert comparison.compare(question, answer, unsure).kept[1] == 0


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("onnxruntime:fp32", Way("onnxruntime", "fp32")),
        ("torch", Way("torch", "auto")),
        ("tensorrt-rtx:", Way("tensorrt-rtx", "auto")),
    ],
)
def test_a_way_is_a_backend_and_a_precision(text: str, way: Way) -> None:
    assert Way.parse(text) == way
    assert Way.parse(str(way)) == way


@pytest.mark.parametrize("text", ["", ":fp16", "a:b:c"])
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(BackendError, match="BACKEND:PRECISION"):
        Way.parse(text)


def test_the_verdict_is_the_exit_code_and_names_what_ran(tiny: ModelFolder, capsys) -> None:
    two = ("--a", "onnxruntime:fp32", "--b", "onnxruntime")
    code, document = call(capsys, "compare", tiny.path, *two)
    assert code == 0
    assert document["passed"] is True
    assert document["b"] == {"backend": "onnxruntime", "device": "cpu", "precision": "fp32"}
    assert [row["name"] for row in document["rows"]][-1] == "masks"
    assert document["masks_kept"][0] == document["masks_kept"][1]


def test_answers_too_far_apart_end_with_1(tiny: ModelFolder, capsys, monkeypatch) -> None:
    truthful = comparison.run_graphs
    factors = iter((1.0, 1.01))

    def distorted(*words: Any) -> Answer:
        found = truthful(*words)
        return replace(found, logits=found.logits * np.float32(next(factors)))

    monkeypatch.setattr(comparison, "run_graphs", distorted)
    two = ["--a", "onnxruntime", "--b", "onnxruntime"]
    assert run(["compare", str(tiny.path), *two]) == 1
    assert "NOT within" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("way", "reason"),
    [("torch:fp32", "--checkpoint"), ("tensorrt:fp16", "tensorrt"), ("onnxruntime:int8", "int8")],
)
def test_a_way_that_cannot_be_had_is_a_bad_call(tiny: ModelFolder, capsys, way, reason) -> None:
    code, document = call(capsys, "compare", tiny.path, "--a", "onnxruntime", "--b", way)
    assert code == 2
    assert reason in document["error"]["message"]


def test_an_export_answers_as_its_network_does_in_torch(
    small_modules, small_folder, tmp_path, monkeypatch, capsys
) -> None:
    from fastseg.export import torch_network

    monkeypatch.setattr(torch_network.checkpoints, "read", lambda path: path)
    monkeypatch.setattr(torch_network, "load_modules", lambda _: small_modules)
    two = ("--a", "torch:fp32", "--b", "onnxruntime:fp32", "--checkpoint", tmp_path / "small.pth")
    code, document = call(capsys, "compare", small_folder, *two)
    assert code == 0
    assert document["a"] == {"backend": "torch", "device": "cpu", "precision": "fp32"}
    worst = {row["name"]: row["relative"] for row in document["rows"]}
    assert worst["embedding"] <= 1e-5
    assert worst["low_res_logits"] <= 1e-5
