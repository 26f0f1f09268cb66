"""Promises of ``fastseg export``; the exports themselves are tested where they live."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fastseg import artifacts
from fastseg.cli.root import run
from fastseg.environment import install_hint
from tests.helpers.processes import finish


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


SAM = ["export", "sam", "--checkpoint"]
A4C = ["export", "unet", "--view", "a4c", "--weights"]
verbs = pytest.mark.parametrize("verb", [SAM, A4C], ids=["sam", "unet"])


@verbs
def test_a_checkpoint_with_code_is_refused_and_nothing_runs(verb, tmp_path, capsys) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    evidence, checkpoint = tmp_path / "evidence", tmp_path / "checkpoint.pth"
    checkpoint.write_bytes(pickle.dumps({"image_encoder.pos_embed": Trap(evidence)}))
    out = tmp_path / "model"
    call = [*verb, str(checkpoint), "--out", str(out), "--json"]
    assert run(call) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "CheckpointError"
    assert str(checkpoint) in document["error"]["message"]
    assert not evidence.exists()
    assert not out.exists()


@verbs
def test_a_missing_checkpoint_is_an_input_that_fails(verb, tmp_path, capsys) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    missing = tmp_path / "missing.pth"
    assert run([*verb, str(missing), "--out", str(tmp_path / "m")]) == 1
    assert "missing.pth" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@verbs
def test_without_the_export_extra_one_line_says_how_to_get_it(verb, tmp_path) -> None:
    script = "import sys; sys.modules['torch'] = None; from fastseg.__main__ import main"
    call = [*verb, "a.pth", "--out", str(tmp_path / "model")]
    answer = finish([sys.executable, "-c", f"{script}; sys.exit(main({call}))"])
    assert answer.returncode == 2
    assert install_hint("export") in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def unet_weights(tmp_path_factory) -> Path:
    torch = pytest.importorskip("torch", reason="export needs torch")
    from fastseg.export.networks.unet import UNet

    path = tmp_path_factory.mktemp("weights") / "a4c.pt"
    torch.save(UNet(3, 5, width=2).state_dict(), path)
    return path


def test_weights_of_a_view_become_a_compared_model_folder(unet_weights, tmp_path, capsys) -> None:
    out = tmp_path / "heart"
    call = [*A4C, str(unet_weights), "--out", str(out), "--licence", "none", "--json"]
    assert run(call) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verb"] == "export unet"
    assert (document["out"], document["weights"]) == (str(out), str(unet_weights))
    assert (document["view"], document["store"]) == ("a4c", "float32")
    assert (document["device"], document["precision"]) == ("cpu", "fp32")
    assert document["seconds"] > 0
    assert document["peak_memory_mb"] is None or document["peak_memory_mb"] > 100
    assert [row["name"] for row in document["parity"]] == [
        "probabilities, batch 1",
        "probabilities, batch 3",
    ]
    manifest = artifacts.read(out).manifest
    assert (manifest.name, manifest.licence, manifest.view) == ("heart", "none", "a4c")
    assert list(tmp_path.iterdir()) == [out]


def test_an_export_is_told_in_a_table_without_json(unet_weights, tmp_path, capsys) -> None:
    out = tmp_path / "model"
    assert run([*A4C, str(unet_weights), "--out", str(out), "--store", "float16"]) == 0
    told = capsys.readouterr().out
    assert "probabilities, batch 3" in told
    assert re.search(r"^\d+\.\d s", told, re.MULTILINE)
    assert f"model in {out}" in told.replace("\n", " ")


def test_weights_of_another_view_fail_and_leave_nothing(unet_weights, tmp_path, capsys) -> None:
    call = ["export", "unet", "--weights", str(unet_weights), "--view", "sax", "--json"]
    assert run([*call, "--out", str(tmp_path / "model")]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "CheckpointError"
    assert "Ask for view a4c" in document["error"]["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["--weights", "--view", "--out"])
def test_a_missing_option_or_unknown_view_is_a_usage_error(missing, tmp_path, capsys) -> None:
    options = {"--weights": "a.pt", "--view": "a4c", "--out": str(tmp_path / "model")}
    unknown = {**options, "--view": "plax"}
    del options[missing]
    for asked in (options, unknown):
        assert run(["export", "unet", *(word for pair in asked.items() for word in pair)]) == 2
    told = capsys.readouterr().err
    assert missing in told
    assert "plax" in told
    assert list(tmp_path.iterdir()) == []


def test_the_views_that_can_be_asked_for_are_the_views_there_are() -> None:
    pytest.importorskip("torch", reason="export needs torch")
    from fastseg.cli.export import unet
    from fastseg.echo.views import VIEWS

    (option,) = (found for found in unet.params if found.name == "view")
    assert list(option.type.choices) == list(VIEWS)


@pytest.mark.parametrize(("relative", "code"), [(9e-5, 0), (2e-4, 1)])
def test_check_passes_what_an_export_would(relative, code, monkeypatch, tmp_path, capsys) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    from fastseg.export import sam
    from fastseg.validation.parity import Difference, Table

    asked = []

    def compared(folder: Path, checkpoint: Path) -> Table:
        asked.append((folder, checkpoint))
        return Table((Difference("embedding", 1.0, relative, 0.0),))

    monkeypatch.setattr(sam, "check_folder", compared)
    call = ["export", "check", str(tmp_path), "--checkpoint", "b.pth"]
    assert run([*call, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert asked == [(tmp_path, Path("b.pth"))]
    assert (document["verb"], document["tolerance"]) == ("export check", 1e-4)
    assert document["passed"] == (code == 0)
    assert document["parity"][0]["relative"] == relative
    assert run([*call, "--tolerance", "1e-3"]) == 0
    assert "within a relative difference of 0.001" in capsys.readouterr().out


def test_check_refuses_a_checkpoint_that_is_missing(tmp_path, capsys) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    call = ["export", "check", "sam-nano", "--checkpoint", str(tmp_path / "absent.pth")]
    assert run(call) == 1
    assert "absent.pth" in capsys.readouterr().err


@pytest.fixture(scope="module")
def lite_medsam(tmp_path_factory) -> Path:
    """Weights of LiteMedSAM, all zero, in half precision."""
    torch = pytest.importorskip("torch", reason="export needs torch")
    from fastseg.export.checkpoints.kinds import KINDS

    kind = next(kind for kind in KINDS if kind.name == "lite-medsam")
    path = tmp_path_factory.mktemp("checkpoints") / "lite_medsam.pth"
    weights = {name: torch.zeros(shape).half() for name, shape in kind.shapes().items()}
    torch.save({"model": weights, "epoch": 3}, path)
    return path


def test_a_file_alone_says_what_it_is_and_writes_nothing(lite_medsam, capsys) -> None:
    before = sorted(lite_medsam.parent.iterdir())
    assert run(["export", str(lite_medsam), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "lite-medsam"
    assert document["preprocess"] == "lite-medsam"
    assert document["published_as"] is None
    assert document["sha256"] == artifacts.sha256(lite_medsam)
    assert sorted(lite_medsam.parent.iterdir()) == before


def test_options_may_stand_before_the_file(lite_medsam, capsys) -> None:
    assert run(["export", "--preprocess", "lite-medsam", str(lite_medsam)]) == 0
    assert "LiteMedSAM, " in capsys.readouterr().out


def test_another_preparation_than_the_networks_is_refused(lite_medsam, tmp_path, capsys) -> None:
    out = tmp_path / "model"
    assert run(["export", str(lite_medsam), "--preprocess", "sam", "--out", str(out)]) == 1
    assert "lite-medsam, not 'sam'" in capsys.readouterr().err
    assert not out.exists()


def test_a_word_that_is_neither_a_verb_nor_a_file_is_said_so(capsys) -> None:
    assert run(["export", "saam"]) == 1
    assert "there is no checkpoint saam" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_becomes_a_model_that_takes_boxes(lite_medsam, tmp_path, capsys) -> None:
    import numpy as np
    import torch

    import fastseg

    file = torch.load(lite_medsam, weights_only=True)
    random = torch.Generator().manual_seed(0)
    for name, tensor in file["model"].items():
        noise = 0.05 * torch.randn(tensor.shape, generator=random)
        file["model"][name] = noise.abs() + 0.5 if "running_var" in name else noise
    path, out = tmp_path / "lite.pth", tmp_path / "lite"
    torch.save(file, path)
    assert run(["export", str(path), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert all(row["relative"] <= 1e-5 for row in document["parity"])
    image = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    with fastseg.load(out, device="cpu") as model:
        masks = model.segment(image, boxes=[[10, 20, 100, 80]])
        assert masks.array().shape == (1, 90, 140)
        assert model.runs["decoder"].startswith("native")
