"""Promises of ``fastseg.validation.comparison`` and ``fastseg compare``, on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.cli.root import run
from fastseg.demo import PICTURE
from fastseg.errors import BackendError, ParityError
from fastseg.inference.sessions import Choice, Sessions
from fastseg.testing import tiny_sam_folder, tiny_unet_folder
from fastseg.validation import comparison, probes
from fastseg.validation.comparison import Limits, Way
from fastseg.validation.probes import (
    Answer,
    PromptQuestion,
    Question,
    answer_all,
    ask,
    prompt_answer,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def asked(tiny: ModelFolder) -> list[Question]:
    return [ask(tiny.manifest, IMAGE)]


@pytest.fixture(scope="module")
def answers(tiny: ModelFolder, asked: list[Question]) -> tuple[Answer, ...]:
    return answer_all(tiny, Choice(), asked)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = run([str(word) for word in words] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


def changed(
    question: Question, answers: tuple[Answer, ...], **tensors: np.ndarray
) -> tuple[Answer, ...]:
    """The answer that these tensors would have made."""
    found = {**answers[0].tensors, **tensors}
    parts = found["embedding"], found["iou_predictions"], found["low_res_logits"]
    assert isinstance(question, PromptQuestion)
    answer = prompt_answer(question, parts, "onnxruntime:cpu", "fp32")
    return (replace(answer, between=answers[0].between),)


def test_a_model_agrees_with_itself(answers) -> None:
    found = comparison.compare(answers, answers)
    assert found.within(Limits(max_relative=0.0, min_iou=1.0, mean_iou=1.0))
    assert found.kept[0] == found.kept[1] > 0, "the filters must have something to keep"
    assert found.pictures == 1
    assert found.masks == 4 * (8 * 8 + 4 * 4 + 4)


def test_clicks_boxes_and_masks_lie_in_the_models_square(asked) -> None:
    (question,) = asked
    side = question.frame.side
    assert question.pixels.shape == (1, 3, side, side)
    assert len(question.coords) == len(question.labels) == 8 * 8 + 4 * 4
    boxes = question.coords[question.labels[:, 0] == 2]
    assert (boxes[:, 0] < boxes[:, 1]).all()
    assert (question.coords >= 0).all()
    assert (question.coords <= side).all()
    for disc, box in zip(question.mask_input[:, 0], boxes[-4:] / 4, strict=True):
        rows, columns = np.nonzero(disc > 0)
        assert (box[0] - 1 <= (columns.min(), rows.min())).all()
        assert ((columns.max(), rows.max()) <= box[1] + 1).all()


@pytest.mark.parametrize("size", [3, 16, 1000])
def test_every_prompt_is_asked_once_and_masked_ones_again(asked, size) -> None:
    (question,) = asked
    batches = list(question.batches(size))
    assert all(len(one.point_coords) <= size for one in batches)
    plain = np.concatenate([one.point_coords for one in batches if one.mask_input is None])
    np.testing.assert_array_equal(plain, question.coords)
    masked = [one for one in batches if one.mask_input is not None]
    np.testing.assert_array_equal(
        np.concatenate([one.point_coords for one in masked]), question.coords[-4:]
    )
    np.testing.assert_array_equal(
        np.concatenate([one.mask_input for one in masked]), question.mask_input
    )


def test_an_error_in_the_logits_is_seen(asked, answers) -> None:
    logits = answers[0].tensors["low_res_logits"]
    other = changed(asked[0], answers, low_res_logits=logits * np.float32(1.001))
    found = comparison.compare(answers, other)
    rows = {row.name: row for row in found.table.rows}
    assert rows["low_res_logits"].relative == pytest.approx(1e-3, rel=0.01)
    assert rows["embedding"].relative == 0.0
    assert not found.within(Limits(max_relative=1e-4))
    assert found.within(Limits(max_relative=2e-3, min_iou=0.9))


def test_an_error_in_what_graphs_hand_to_each_other_is_seen(answers) -> None:
    names = {name for name, _ in answers[0].between}
    assert names == {"brightness", "mask_vectors"}
    for name in names:
        off = {
            one: array * np.float32(1.01 if one[0] == name else 1)
            for one, array in answers[0].between.items()
        }
        found = comparison.compare(answers, [replace(answers[0], between=off)])
        assert {row.name for row in found.table.rows if row.relative > 0} == {name}
        assert not found.within(Limits(max_relative=1e-3))


def test_what_two_runtimes_lay_out_in_their_own_ways_is_not_compared(answers) -> None:
    own = {
        (name, (*shape[:-1], "floats")): array * np.float32("nan")
        for (name, shape), array in answers[0].between.items()
    }
    found = comparison.compare(answers, [replace(answers[0], between=own)])
    assert [row.name for row in found.table.rows] == [*answers[0].tensors, "masks"]


def test_masks_that_would_be_kept_are_told_apart_from_all(asked, answers) -> None:
    kept = answers[0].kept
    logits = answers[0].tensors["low_res_logits"].copy()
    lost = logits.reshape(-1, *logits.shape[2:])
    lost[kept[0]] = -1
    found = comparison.compare(answers, changed(asked[0], answers, low_res_logits=logits))
    assert found.kept_iou == (0.0, pytest.approx(1 - 1 / len(kept)))
    assert f"mean IoU of the {len(kept)}" in found.told(Limits(min_iou=0.5))
    none = [replace(answers[0], kept=kept[:0])]
    assert comparison.compare(none, answers).kept_iou is None


def test_a_mask_that_changed_is_seen(asked, answers) -> None:
    logits = answers[0].tensors["low_res_logits"].copy()
    logits[5, 1] = -logits[5, 1]
    found = comparison.compare(answers, changed(asked[0], answers, low_res_logits=logits))
    assert not found.within(Limits(min_iou=0.5))
    assert found.within(Limits(mean_iou=0.99))
    assert not found.within(Limits(mean_iou=0.9999))


def test_masks_that_are_lost_are_counted(asked, answers) -> None:
    scores = answers[0].tensors["iou_predictions"]
    unsure = changed(asked[0], answers, iou_predictions=scores * 0)
    found = comparison.compare(answers, unsure)
    assert found.kept[1] == 0
    assert found.count_change == 1.0
    assert found.within(Limits(mean_iou=1.0))
    assert not found.within(Limits.between("sam", ("fp32", "fp16")))


def test_of_several_pictures_the_worst_counts_and_the_mean_of_means(asked, answers) -> None:
    logits = answers[0].tensors["low_res_logits"]
    other = changed(asked[0], answers, low_res_logits=logits - np.abs(logits).max() / 50)
    alone = comparison.compare(answers, other)
    found = comparison.compare((*answers, *answers), (*answers, *other))
    assert found.pictures == 2
    for one, many in zip(alone.table.rows, found.table.rows, strict=True):
        assert many.max_abs == one.max_abs
        assert many.nmse == one.nmse
    assert alone.of_masks.mask_iou_mean < 1
    assert found.of_masks.mask_iou_mean == pytest.approx((1 + alone.of_masks.mask_iou_mean) / 2)
    assert found.of_masks.mask_iou_min == alone.of_masks.mask_iou_min


def test_answers_to_other_questions_cannot_be_compared(answers) -> None:
    other = replace(answers[0], tensors={"probabilities": np.zeros(1)})
    with pytest.raises(ParityError, match="embedding"):
        comparison.compare(answers, (other,))


class Off:
    """A graph whose outputs are not quite what they should be."""

    def __init__(self, backend: Any, factor: float) -> None:
        self.name, self.graph, self.memory = backend.name, backend.graph, backend.memory
        self._backend, self._factor = backend, factor

    def run(self, inputs):
        found = self._backend.run(inputs)
        return {name: array * np.float32(self._factor) for name, array in found.items()}

    def close(self) -> None:
        pass


def test_a_gate_lets_the_same_masks_pass_and_no_others(tiny: ModelFolder) -> None:
    graphs = Sessions(tiny, Choice())
    found = comparison.gate(
        tiny, {"mask_head": Off(graphs["mask_head"], 1.001)}, precision="fp16", pictures=[IMAGE]
    )
    assert found.of_masks.mask_iou_min == 1.0
    assert {row.name: row for row in found.table.rows}["low_res_logits"].relative > 5e-4
    with pytest.raises(ParityError, match=r"tiny-sam in fp16(.*\n)*.*low_res_logits"):
        comparison.gate(
            tiny, {"mask_head": Off(graphs["mask_head"], -1.0)}, precision="fp16", pictures=[IMAGE]
        )
    with pytest.raises(ParityError, match="max_relative"):
        comparison.gate(
            tiny,
            {"decoder": Off(graphs["decoder"], 1.01)},
            precision="fp32",
            pictures=[IMAGE],
        )


def test_networks_for_frames_are_compared_by_their_chambers(tmp_path, capsys) -> None:
    folder = tiny_unet_folder(tmp_path / "heart")
    two = ("--a", "onnxruntime:fp32", "--b", "onnxruntime:fp32")
    code, document = call(capsys, "compare", folder, *two)
    assert code == 0
    assert [row["name"] for row in document["rows"]] == ["probabilities", "masks"]
    assert document["masks"] == 3 * 3
    assert document["masks_kept"][0] == document["masks_kept"][1] > 0


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
    assert document["images"] == ["generated"]
    assert document["limits"] == {"max_relative": 1e-4, "min_iou": 0.99}
    assert document["passed"] is True
    assert document["b"] == {"backend": "onnxruntime", "device": "cpu", "precision": "fp32"}
    assert [row["name"] for row in document["rows"]][-1] == "masks"
    assert document["masks_kept"][0] == document["masks_kept"][1]


def test_answers_too_far_apart_end_with_1(tiny: ModelFolder, tmp_path, capsys, monkeypatch) -> None:
    truthful = probes.answer_all
    factors = iter((1.0, 1.01, 1.0, 1.01))

    def distorted(folder: ModelFolder, choice: Choice, asked: list[Question]) -> Any:
        factor = np.float32(next(factors))
        found = truthful(folder, choice, asked)
        return [
            replace(one, tensors={k: v * factor for k, v in one.tensors.items()}) for one in found
        ]

    monkeypatch.setattr(probes, "answer_all", distorted)
    picture = tmp_path / "picture.png"
    Image.fromarray(IMAGE).save(picture)
    two = ["--image", str(picture), "--a", "onnxruntime", "--b", "onnxruntime"]
    assert run(["compare", str(tiny.path), *two]) == 1
    assert "NOT within" in capsys.readouterr().out
    assert run(["compare", str(tiny.path), *two, "--mean-iou", "0.9"]) == 0
    assert "within the limits: mean_iou 0.9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("torch:fp32", "--checkpoint"),
        ("tensorrt:fp16", "tensorrt"),
        ("onnxruntime:int8", "int8"),
        ("rounded:fp16", "no graphs in fp16"),
        ("rounded:fp32", "fp16"),
    ],
)
def test_a_way_that_cannot_be_had_is_a_bad_call(tiny: ModelFolder, capsys, way, reason) -> None:
    code, document = call(capsys, "compare", tiny.path, "--a", "onnxruntime", "--b", way)
    assert code == 2
    assert reason in document["error"]["message"]


def test_an_export_answers_as_its_network_does_in_torch(
    small_modules, small_folder, tmp_path, monkeypatch, capsys
) -> None:
    from fastseg.export import reference as torch_reference

    monkeypatch.setattr(torch_reference.checkpoints, "read", lambda path: path)
    monkeypatch.setattr(torch_reference, "load_modules", lambda _: small_modules)
    two = ("--a", "torch:fp32", "--b", "onnxruntime:fp32", "--checkpoint", tmp_path / "small.pth")
    code, document = call(capsys, "compare", small_folder, *two)
    assert code == 0
    assert document["a"] == {"backend": "torch", "device": "cpu", "precision": "fp32"}
    worst = {row["name"]: row["relative"] for row in document["rows"]}
    assert worst["embedding"] <= 1e-5
    assert worst["low_res_logits"] <= 1e-5


def test_the_embedded_network_answers_as_in_torch(capsys) -> None:
    pytest.importorskip("torch", reason="the reference needs torch")
    from tests.helpers.reference_sam import NANO_WEIGHTS

    if not NANO_WEIGHTS.is_file():
        pytest.skip("the weights of sam-nano for torch are not in this tree")
    two = ("--a", "torch", "--b", "onnxruntime:fp32", "--checkpoint", NANO_WEIGHTS)
    code, document = call(capsys, "compare", "sam-nano", *two, "--image", PICTURE)
    assert code == 0, document
    assert document["masks_kept"][0] == document["masks_kept"][1] > 0
