"""A configuration passes only if it is faster and gives the masks of FP32."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import fastseg
from fastseg import artifacts, ops
from fastseg.artifacts import ModelFolder
from fastseg.backends.base import NotServedError
from fastseg.backends.onnxruntime import session as ort
from fastseg.cli.root import run
from fastseg.errors import BackendError, ModelFolderError
from fastseg.inference import tuned_plans
from fastseg.inference.sessions import UNMEASURED
from fastseg.inference.tuned_plans import Candidate
from fastseg.testing import FakeBackend, tiny_sam_folder, tiny_unet_folder
from fastseg.validation import autotune, synthetic
from fastseg.validation.autotune import evaluate
from fastseg.validation.probes import DrawnMasks
from tests.fakes import fake_runtime
from tests.fakes.fake_runtime import FakeRuntime

pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

RELATIVE_SPEED = autotune.relative_speed
CANDIDATE = Candidate({"encoder": "fake:cpu bf16"}, 2.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ModelFolder:
    return artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


# The synthetic images.


def test_scenes_are_the_same_every_time_and_show_something():
    first, again = synthetic.scenes(), synthetic.scenes()
    assert len(first) == 7
    for image, same in zip(first, again, strict=True):
        assert image.shape == (*synthetic.SIZE, 3)
        assert image.dtype == np.uint8
        assert image.std() > 20
        np.testing.assert_array_equal(image, same)
    assert len({image.tobytes() for image in first}) == len(first)


# The evaluation of a candidate.


def drawn(*squares: tuple[int, int], kept: int | None = None, ids=None) -> DrawnMasks:
    """Squares (first row, side) of one image, of which the first ``kept`` are kept."""
    pixels = np.zeros((len(squares), 60, 60), bool)
    for plane, (first, side) in zip(pixels, squares, strict=True):
        plane[first : first + side, :side] = True
    runs = ops.rle_from_array(pixels)
    ids = np.arange(len(squares)) if ids is None else np.array(ids)
    return DrawnMasks(ids, runs, np.arange(len(squares) if kept is None else kept))


MANY = [(0, 40)] * 30


def test_the_same_masks_pass():
    found = evaluate(CANDIDATE, [drawn(*MANY)], [drawn(*MANY)])
    assert (found.refused, found.mask_iou_mean, found.mask_iou_min) == ("", 1.0, 1.0)
    assert (found.masks, found.masks_kept) == (30, 30)


def test_one_mask_that_is_off_is_found_among_many_that_are_right():
    off = [*MANY[1:], (3, 40)]
    found = evaluate(CANDIDATE, [drawn(*MANY)], [drawn(*off)])
    assert found.mask_iou_min == pytest.approx(37 / 43)
    assert found.mask_iou_mean > 0.99
    assert found.refused == "least mask IoU 0.8605 is below 0.95"


def test_many_masks_that_are_a_little_off_are_too_many():
    found = evaluate(CANDIDATE, [drawn(*MANY)], [drawn(*[(0, 39)] * 30)])
    assert found.mask_iou_min == pytest.approx(39**2 / 40**2)
    assert found.refused == "mean mask IoU 0.9506 is below 0.99"


def test_masks_that_are_lost_or_gained_count():
    assert evaluate(CANDIDATE, [drawn(*MANY)], [drawn(*MANY, kept=30)]).refused == ""
    lost = evaluate(CANDIDATE, [drawn(*MANY)], [drawn(*MANY, kept=29)])
    assert lost.refused == "29 masks are kept instead of 30"
    assert evaluate(CANDIDATE, [drawn(*MANY)], [drawn(*MANY, (0, 9))]).refused.startswith(
        "31 masks"
    )


def test_counterparts_are_found_by_prompt_and_not_by_order():
    squares = [(index, 40) for index in range(20)]
    turned = drawn(*squares[::-1], (0, 3), ids=[*range(19, -1, -1), 99], kept=20)
    assert evaluate(CANDIDATE, [drawn(*squares)], [turned]).mask_iou_min == 1.0


def test_too_few_masks_are_no_evidence():
    found = evaluate(CANDIDATE, [drawn(*MANY[:19])], [drawn(*MANY[:19])])
    assert found.refused == "FP32 keeps 19 masks on the images, too few to judge by"


# Autotuning, with a second runtime whose faults are known.


@pytest.fixture
def second_runtime(monkeypatch):
    """ONNX Runtime under another name, whose outputs can be bent; timed as told."""
    told = SimpleNamespace(bend=lambda name, outputs: outputs, speed=3.0)

    def resolve(folder, graph_name, precision):
        if precision != "bf16":
            raise NotServedError("it computes in bf16 alone")
        return ort.ONNXRUNTIME.resolve(folder, graph_name, "fp32")[0], "bf16"

    def open_graph(folder, plan, *, threads, keep_memory):
        real = ort.ONNXRUNTIME.open_graph(folder, plan, threads=1, keep_memory=True)
        name = plan.stored.graph.name
        return FakeBackend(real.graph, lambda inputs: told.bend(name, real.run(inputs)))

    second = FakeRuntime("second", resolve=resolve, open_graph=open_graph)
    fake_runtime.install(monkeypatch, "onnxruntime", second)

    def relative_speed(graphs, others, part, probe):
        moved = others.plans[part[0]].backend == "second"
        return told.speed if moved else 1 / told.speed

    monkeypatch.setattr(autotune, "relative_speed", relative_speed)
    few = synthetic.scenes()[:2]
    monkeypatch.setattr(synthetic, "scenes", lambda: few)
    return told


def test_a_faster_runtime_with_the_same_masks_is_followed(folder, second_runtime):
    found = fastseg.calibrate(folder.path)
    assert [candidate.refused for candidate in found.candidates] == [
        "",
        "",
        "not 1.1 times as fast",
    ]
    assert all(candidate.masks >= 20 for candidate in found.candidates[:2])
    assert {*found.backends.values()} == {"second"}
    with fastseg.load(folder.path) as model:
        assert (model.backend, model.precision) == ("second", "bf16")
    with fastseg.load(folder.path, precision="fp32") as model:
        assert (model.backend, model.precision) == ("onnxruntime", "fp32")


def test_a_runtime_that_is_hardly_faster_is_refused(folder, second_runtime):
    second_runtime.speed = autotune.LEAST_GAIN - 0.01
    found = autotune.autotune(folder)
    assert {candidate.refused for candidate in found.candidates} == {"not 1.1 times as fast"}
    assert {*found.backends.values()} == {"onnxruntime"}
    assert {*found.precisions.values()} == {"fp32"}


def test_a_fast_runtime_that_draws_other_masks_is_refused(folder, second_runtime):
    def bend(name, outputs):
        if name == "mask_head":
            outputs = {"low_res_logits": np.roll(outputs["low_res_logits"], 2, axis=-1)}
        return outputs

    second_runtime.bend = bend
    found = autotune.autotune(folder)
    refused = {"+".join(candidate.runs): bool(candidate.refused) for candidate in found.candidates}
    assert refused == {
        "encoder": False,
        "image_state+decoder+decoder_mask+mask_head": True,
        "mask_head": True,
    }
    assert found.backends == {
        "encoder": "second",
        **dict.fromkeys(("image_state", "decoder", "decoder_mask", "mask_head"), "onnxruntime"),
    }


def test_a_runtime_that_fails_is_refused(folder, second_runtime, monkeypatch):
    def fail(name, outputs):
        raise BackendError("no such operator")

    second_runtime.bend = fail
    monkeypatch.setattr(autotune, "relative_speed", RELATIVE_SPEED)
    found = autotune.autotune(folder)
    assert {candidate.refused for candidate in found.candidates} == {"it does not run here"}
    assert {*found.backends.values()} == {"onnxruntime"}


def test_a_plan_that_cannot_be_kept_gives_a_warning(folder, second_runtime, monkeypatch):
    monkeypatch.setattr(tuned_plans, "user_cache_folder", lambda: None)
    with pytest.warns(RuntimeWarning, match="FP32 stays what is loaded.*no home folder"):
        fastseg.calibrate(folder.path)


def test_a_network_for_frames_is_told_what_to_do_instead(tmp_path):
    frames = tiny_unet_folder(tmp_path / "unet")
    with pytest.raises(ModelFolderError, match='precision="bf16"'):
        fastseg.calibrate(frames)


# The command.


def test_the_command_keeps_what_it_finds_and_forgets_it(folder, second_runtime, capsys):
    assert run(["calibrate", str(folder.path), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["kept"]
    assert body["verdict"]["backends"]["encoder"] == "second"
    assert body["limits"]["mask_iou_min"] == 0.95
    assert tuned_plans.find(folder) is not None
    assert run(["calibrate", str(folder.path)]) == 0
    shown = capsys.readouterr().out
    assert "second:cpu bf16, 3.00x as fast" in shown
    assert "Saved: later runs use it." in shown
    assert run(["calibrate", str(folder.path), "--forget"]) == 0
    assert "FP32 again" in capsys.readouterr().out
    with fastseg.load(folder.path) as model:
        assert model.reason == UNMEASURED
