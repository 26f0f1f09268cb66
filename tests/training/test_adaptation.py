"""Label-free adaptation: the split, the rounds, where they start, and the whole command."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("safetensors", reason="training needs safetensors")
pytest.importorskip("skimage", reason="weak labels need scikit-image")
pytest.importorskip("scipy", reason="weak labels need scipy")

import fastseg
from fastseg.errors import ImageError, ModelError, ModelFolderError
from fastseg.export.model_folder import Card
from fastseg.export.networks.unet import UNet
from fastseg.export.unet import write_unet_folder
from fastseg.testing import tiny_unet_folder
from tests.helpers.synthetic_hearts import SIDE, drawn_heart, ellipse, save_hearts
from training.dice import soft_dice
from training.echo import (
    adapt,
    adaptation,
    labelling,
    own_frames,
    self_learning,
    starting_weights,
)
from training.echo.self_learning import Examples, Schedule


def blank_labels(count: int) -> labelling.Labels:
    return labelling.collect(np.zeros((3, SIDE, SIDE), bool) for _ in range(count))


def test_frames_of_a_patient_stay_on_one_side_of_the_split():
    groups = [f"patient{number % 7}" for number in range(70)]
    parts = self_learning.split(blank_labels(70), groups, Schedule(), share=1.0)
    sides = [{groups[index] for index in part} for part in (parts.training, parts.validation)]
    assert not sides[0] & sides[1]
    assert len(parts.training) + len(parts.validation) == 70
    assert 14 <= len(parts.validation) <= 24


def test_the_first_round_sees_a_share_of_the_frames():
    groups = [str(number) for number in range(100)]
    parts = self_learning.split(blank_labels(100), groups, Schedule(), share=0.3)
    assert (len(parts.training), len(parts.validation)) == (24, 6)
    assert self_learning.split(blank_labels(100), groups, Schedule(), share=0.3) == parts


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_labels_are_refused_in_words(count):
    with pytest.raises(ImageError, match="Give more frames"):
        self_learning.split(blank_labels(count), ["one"] * count, Schedule(), share=1.0)


def test_learning_leaves_the_network_of_its_best_epoch(tmp_path):
    save_hearts(tmp_path, 3)
    frames = own_frames.find(tmp_path, channels=3)
    random = np.random.default_rng(7)
    labels = labelling.collect(drawn_heart(random)[1] for _ in range(3))
    torch.manual_seed(0)
    network = UNet(3, 3, width=2)
    # Far too fast, so that the last epoch is not the best.
    schedule = Schedule(batch=1, rate=0.1)
    kept_back = Examples(frames, labels, [2])
    curve = self_learning.learn(network, (Examples(frames, labels, [0, 1]), kept_back), schedule, 4)
    frame, target = kept_back[0]
    with torch.no_grad():
        loss = 1 - float(soft_dice(network(frame[None]).sigmoid(), target[None]).mean())
    assert len(curve) == 4
    assert loss == pytest.approx(min(epoch.validation for epoch in curve), abs=1e-6)


def test_a_folder_is_searched_for_images_and_patients(tmp_path):
    save_hearts(tmp_path, 4, patients=2)
    (tmp_path / "notes.txt").write_text("nothing")
    frames = own_frames.find(tmp_path, channels=3)
    assert len(frames) == 4
    assert len(set(frames.groups)) == 2
    assert frames[0].shape == (3, SIDE, SIDE)
    assert len(own_frames.find(tmp_path, channels=3, most=3)) == 3
    assert len(set(own_frames.find(tmp_path / "patient0", channels=1).groups)) == 2


def test_a_damaged_image_is_named_before_work_begins(tmp_path):
    save_hearts(tmp_path, 1)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        own_frames.find(tmp_path, channels=3)


def test_a_folder_without_images_is_refused_in_words(tmp_path):
    with pytest.raises(ImageError, match="holds no image"):
        own_frames.find(tmp_path, channels=3)
    with pytest.raises(ImageError, match="not a folder"):
        own_frames.find(tmp_path / "nowhere", channels=3)


@pytest.mark.parametrize(
    ("view", "teacher", "reason"),
    [
        ("a4c", "sam-nano", "takes prompts"),
        ("sax", "tiny", "is for a2c"),
        ("a4c", "tiny", "sees frames of 64 pixels"),
    ],
)
def test_a_teacher_for_something_else_is_refused(tmp_path, view, teacher, reason):
    save_hearts(tmp_path / "frames", 1)
    if teacher == "tiny":
        teacher = str(tiny_unet_folder(tmp_path / "teacher"))
    task = adaptation.AdaptationTask(
        view, tmp_path / "frames", tmp_path / "out", tmp_path / "run", teacher=teacher
    )
    with pytest.raises(ModelError, match=reason):
        adaptation.adapt(task, print)
    assert not (tmp_path / "out").exists()


class SaxTeacher:
    """A short-axis network that finds the same cavity in every frame."""

    view = "sax"
    manifest = SimpleNamespace(frame_preprocessing=SimpleNamespace(side=SIDE))

    def probabilities(self, paths, *, cm_per_pixel=None):
        cavity = ellipse(128, 128, 40, 40).astype(np.float32)
        return np.broadcast_to(cavity, (len(paths), 3, SIDE, SIDE))

    def close(self):
        """Free nothing."""


def test_a_view_with_a_teacher_runs_both_rounds(tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "load_unet", lambda name, choice: SaxTeacher())
    save_hearts(tmp_path / "frames", 4)
    task = adaptation.AdaptationTask(
        "sax",
        tmp_path / "frames",
        tmp_path / "out",
        tmp_path / "run",
        width=2,
        schedule=adapt.SMOKE,
    )
    first, second = adaptation.adapt(task, print)
    assert (first.labelled, second.labelled) == (4, 4)
    assert (first.training, first.validation) == (3, 1)
    with fastseg.load(tmp_path / "out") as model:
        assert model.view == "sax"
        assert model.manifest.source["labels"] == "echo-sax"


def test_a_model_folder_starts_training_like_its_weights(tmp_path):
    torch.manual_seed(1)
    known = UNet(1, 3, width=8)
    for name, parameter in known.named_parameters():
        if name.startswith("down"):  # the other biases stay zero, which an export leaves out
            parameter.data = parameter.data + 0.01
        parameter.data = parameter.data.half().float()
    torch.save(known.state_dict(), tmp_path / "weights.pt")
    write_unet_folder(known, tmp_path / "model", "sax", Card("model"), store="float16")
    for start in ("weights.pt", "model"):
        found = starting_weights.network(str(tmp_path / start), "sax").state_dict()
        for name, weight in known.state_dict().items():
            assert torch.equal(found[name], weight), name


def test_learning_does_not_start_from_another_view(tmp_path):
    folder = tiny_unet_folder(tmp_path / "model")
    with pytest.raises(ModelFolderError, match="no network for sax"):
        starting_weights.network(str(folder), "sax")
    with pytest.raises(ModelFolderError, match="does not name its weights"):
        starting_weights.network(str(folder), "a2c")


def test_the_command_goes_from_frames_to_a_model_that_runs(tmp_path, capsys):
    save_hearts(tmp_path / "frames", 5)
    out = tmp_path / "mine"
    command = [str(tmp_path / "frames"), "--view", "a2c", "--out", str(out), "--smoke"]
    assert adapt.main(command) == 0
    assert "Research use only" in capsys.readouterr().out
    report = json.loads((tmp_path / "mine-run" / "report.json").read_text())
    assert [done["labelled"] for done in report["rounds"]] == [5, 5]
    for name in ("labels1.png", "labels2.png", "round1.safetensors", "round2.safetensors"):
        assert (tmp_path / "mine-run" / name).exists()
    with fastseg.load(out) as model:
        assert model.view == "a2c"
        assert model.segment(tmp_path / "frames" / "patient0" / "0.png").names == ("LA", "LV")


def test_the_command_prints_the_reason_of_a_failure(tmp_path, capsys):
    assert adapt.main([str(tmp_path), "--view", "a2c", "--out", str(tmp_path / "mine")]) == 1
    assert "holds no image" in capsys.readouterr().err


def test_an_occupied_path_and_a_missing_device_fail_at_once(tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    command = [str(tmp_path), "--view", "a2c", "--out"]
    assert adapt.main([*command, str(taken)]) == 1
    assert "no model folder" in capsys.readouterr().err
    assert adapt.main([*command, str(tmp_path / "new"), "--device", "abacus"]) == 1
    assert "--device cpu" in capsys.readouterr().err
    assert (taken / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("option", [("--share", "0"), ("--epochs", "0", "3"), ("--batch", "-1")])
def test_settings_that_make_no_sense_are_a_bad_call(tmp_path, option):
    with pytest.raises(SystemExit) as exit_code:
        adapt.main([str(tmp_path), "--view", "a2c", "--out", str(tmp_path / "new"), *option])
    assert exit_code.value.code == 2
