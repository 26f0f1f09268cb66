"""Promises of ``fastseg models`` and ``fastseg doctor``."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from fastseg import diagnosis, ops
from fastseg.artifacts import registry
from fastseg.cli.root import run
from fastseg.testing import tiny_sam_folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_sam_folder(tmp_path / "tiny")


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = run([str(word) for word in words] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", [("models",), ("models", "ls")])
def test_models_are_listed_with_their_licence(capsys, words) -> None:
    code, document = answer(capsys, *words)
    assert code == 0
    rows = {row["name"]: row for row in document["models"]}
    assert set(rows) == {card.name for card in registry.list_models()}
    assert rows["sam-vit-b"]["licence"] == "Apache-2.0"
    assert rows["sam-vit-b"]["checkpoint"] == "sam_vit_b_01ec64.pth"
    assert rows["medsam"]["prompts"] == "boxes"
    assert rows["medsam"]["preprocess"] == "medsam"
    assert rows["sam2.1-hiera-tiny"]["bytes"] == 156_008_466
    assert rows["sam2.1-hiera-tiny"]["sha256"].startswith("7402e0d864fa")
    assert rows["sam-nano"]["prompts"] == "points, boxes, masks"
    assert rows["echo-a4c"]["prompts"] == ""


def test_a_whole_folder_is_verified_and_an_altered_one_is_named(tiny, tmp_path, capsys) -> None:
    altered = tiny_sam_folder(tmp_path / "altered")
    graph = altered / "encoder.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    code, document = answer(capsys, "models", "verify", tiny, altered)
    assert code == 1
    whole, broken = document["models"]
    assert whole["graphs"] == 5
    assert broken["error"]["type"] == "ModelFolderError"
    assert "encoder.onnx" in broken["error"]["message"]


def test_without_names_every_embedded_model_is_verified(tiny, monkeypatch, capsys) -> None:
    monkeypatch.setattr(registry, "EMBEDDED", tiny.parent)
    code, document = answer(capsys, "models", "verify")
    assert code == 0
    assert [row["name"] for row in document["models"]] == ["tiny"]


def test_a_model_folder_can_be_removed(tiny, capsys) -> None:
    code, document = answer(capsys, "models", "rm", tiny, "--yes")
    assert code == 0
    assert document["removed"] == str(tiny)
    assert not tiny.exists()


def test_rm_without_a_terminal_needs_yes(tiny, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    code, document = answer(capsys, "models", "rm", tiny)
    assert code == 2
    assert "--yes" in document["error"]["message"]
    assert tiny.is_dir()


def test_rm_refuses_a_folder_that_is_no_model_folder(tmp_path, capsys) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    code, document = answer(capsys, "models", "rm", tmp_path, "--yes")
    assert code == 2
    assert "not a model folder" in document["error"]["message"]
    assert (tmp_path / "thesis.tex").is_file()


def test_an_embedded_model_is_not_removed(tiny, monkeypatch, capsys) -> None:
    monkeypatch.setattr(registry, "EMBEDDED", tiny.parent)
    code, _ = answer(capsys, "models", "rm", tiny, "--yes")
    assert code == 2
    assert tiny.is_dir()


def test_doctor_has_a_remedy_for_every_missing_runtime(capsys) -> None:
    code, document = answer(capsys, "doctor")
    assert code == (0 if document["ok"] else 1)
    decoder = document["native_kernels"].pop("decoder").split(",")
    assert document["native_kernels"].pop("worth")
    assert document["native_kernels"] == {"ok": True}
    assert decoder == list(ops.kernel_tables())
    assert document["runtimes"]["onnxruntime"]["ok"] is True
    for part in document["runtimes"].values():
        assert part["ok"] or part["remedy"]


def test_doctor_prints_the_extra_of_a_remedy(monkeypatch, capsys) -> None:
    remedy = "Install it: pip install 'fastseg-runtime[openvino]'."
    missing = {"ok": False, "reason": "openvino is not installed", "remedy": remedy}
    found = diagnosis.doctor()
    part = {**found, "runtimes": {"openvino": missing}}
    monkeypatch.setattr(diagnosis, "doctor", lambda: part)
    run(["doctor"])
    assert "[openvino]" in capsys.readouterr().out


def test_doctor_ends_with_1_where_nothing_can_run(monkeypatch, capsys) -> None:
    broken = {"ok": False, "reason": "no such file", "remedy": "Install fastseg again"}
    healthy = diagnosis.doctor()
    ill = {**healthy, "ok": False, "native_kernels": broken}
    monkeypatch.setattr(diagnosis, "doctor", lambda: ill)
    assert run(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "Install fastseg again" in printed
    assert "cannot run here" in printed
