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
from fastseg.validation.comparison import Configuration, Limits
from fastseg.validation.probes import (
    ModelOutputs,
    Probe,
    PromptProbe,
    build_probe,
    prompt_outputs,
    run_probes,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def prepared(tiny: ModelFolder) -> list[Probe]:
    return [build_probe(tiny.manifest, IMAGE)]


@pytest.fixture(scope="module")
def outputs(tiny: ModelFolder, prepared: list[Probe]) -> tuple[ModelOutputs, ...]:
    return run_probes(tiny, Choice(), prepared)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = run([str(word) for word in words] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


def changed(
    probe: Probe, outputs: tuple[ModelOutputs, ...], **tensors: np.ndarray
) -> tuple[ModelOutputs, ...]:
    """The outputs with other tensors, and the masks that they draw."""
    found = {**outputs[0].tensors, **tensors}
    parts = found["embedding"], found["iou_predictions"], found["low_res_logits"]
    assert isinstance(probe, PromptProbe)
    other = prompt_outputs(probe, parts, "onnxruntime:cpu", "fp32")
    return (replace(other, intermediates=outputs[0].intermediates),)


def test_a_model_agrees_with_itself(outputs) -> None:
    found = comparison.compare(outputs, outputs)
    assert found.within(Limits(max_relative=0.0, min_iou=1.0, mean_iou=1.0))
    assert found.kept[0] == found.kept[1] > 0, "the filters must have something to keep"
    assert found.images == 1
    assert found.masks == 4 * (8 * 8 + 4 * 4 + 4)


def test_points_boxes_and_masks_lie_in_the_models_square(prepared) -> None:
    (probe,) = prepared
    side = probe.frame.side
    assert probe.pixels.shape == (1, 3, side, side)
    assert len(probe.coords) == len(probe.labels) == 8 * 8 + 4 * 4
    boxes = probe.coords[probe.labels[:, 0] == 2]
    assert (boxes[:, 0] < boxes[:, 1]).all()
    assert (probe.coords >= 0).all()
    assert (probe.coords <= side).all()
    for disc, box in zip(probe.mask_input[:, 0], boxes[-4:] / 4, strict=True):
        rows, columns = np.nonzero(disc > 0)
        assert (box[0] - 1 <= (columns.min(), rows.min())).all()
        assert ((columns.max(), rows.max()) <= box[1] + 1).all()


@pytest.mark.parametrize("size", [3, 16, 1000])
def test_every_prompt_is_run_once_and_those_with_masks_again(prepared, size) -> None:
    (probe,) = prepared
    batches = list(probe.batches(size))
    assert all(len(one.point_coords) <= size for one in batches)
    plain = np.concatenate([one.point_coords for one in batches if one.mask_input is None])
    np.testing.assert_array_equal(plain, probe.coords)
    masked = [one for one in batches if one.mask_input is not None]
    np.testing.assert_array_equal(
        np.concatenate([one.point_coords for one in masked]), probe.coords[-4:]
    )
    np.testing.assert_array_equal(
        np.concatenate([one.mask_input for one in masked]), probe.mask_input
    )


def test_an_error_in_the_logits_is_seen(prepared, outputs) -> None:
    logits = outputs[0].tensors["low_res_logits"]
    other = changed(prepared[0], outputs, low_res_logits=logits * np.float32(1.001))
    found = comparison.compare(outputs, other)
    rows = {row.name: row for row in found.table.rows}
    assert rows["low_res_logits"].relative == pytest.approx(1e-3, rel=0.01)
    assert rows["embedding"].relative == 0.0
    assert not found.within(Limits(max_relative=1e-4))
    assert found.within(Limits(max_relative=2e-3, min_iou=0.9))


def test_an_error_in_intermediates_is_seen(outputs) -> None:
    names = {name for name, _ in outputs[0].intermediates}
    assert names == {"brightness", "mask_vectors"}
    for name in names:
        off = {
            one: array * np.float32(1.01 if one[0] == name else 1)
            for one, array in outputs[0].intermediates.items()
        }
        found = comparison.compare(outputs, [replace(outputs[0], intermediates=off)])
        assert {row.name for row in found.table.rows if row.relative > 0} == {name}
        assert not found.within(Limits(max_relative=1e-3))


def test_intermediates_of_different_layouts_are_not_compared(outputs) -> None:
    own = {
        (name, (*shape[:-1], "floats")): array * np.float32("nan")
        for (name, shape), array in outputs[0].intermediates.items()
    }
    found = comparison.compare(outputs, [replace(outputs[0], intermediates=own)])
    assert [row.name for row in found.table.rows] == [*outputs[0].tensors, "masks"]


def test_kept_masks_have_ious_of_their_own(prepared, outputs) -> None:
    kept = outputs[0].drawn.kept
    logits = outputs[0].tensors["low_res_logits"].copy()
    lost = logits.reshape(-1, *logits.shape[2:])
    lost[kept[0]] = -1
    found = comparison.compare(outputs, changed(prepared[0], outputs, low_res_logits=logits))
    assert found.kept_iou == (0.0, pytest.approx(1 - 1 / len(kept)))
    assert f"mean IoU of the {len(kept)}" in found.summary(Limits(min_iou=0.5))
    none = [replace(outputs[0], drawn=replace(outputs[0].drawn, kept=kept[:0]))]
    assert comparison.compare(none, outputs).kept_iou is None


def test_a_mask_that_changed_is_seen(prepared, outputs) -> None:
    logits = outputs[0].tensors["low_res_logits"].copy()
    logits[5, 1] = -logits[5, 1]
    found = comparison.compare(outputs, changed(prepared[0], outputs, low_res_logits=logits))
    assert not found.within(Limits(min_iou=0.5))
    assert found.within(Limits(mean_iou=0.99))
    assert not found.within(Limits(mean_iou=0.9999))


def test_masks_that_are_lost_are_counted(prepared, outputs) -> None:
    scores = outputs[0].tensors["iou_predictions"]
    unsure = changed(prepared[0], outputs, iou_predictions=scores * 0)
    found = comparison.compare(outputs, unsure)
    assert found.kept[1] == 0
    assert found.count_change == 1.0
    assert found.within(Limits(mean_iou=1.0))
    assert not found.within(Limits.between("sam", ("fp32", "fp16")))


def test_several_images_give_the_worst_and_the_mean_of_means(prepared, outputs) -> None:
    logits = outputs[0].tensors["low_res_logits"]
    other = changed(prepared[0], outputs, low_res_logits=logits - np.abs(logits).max() / 50)
    alone = comparison.compare(outputs, other)
    found = comparison.compare((*outputs, *outputs), (*outputs, *other))
    assert found.images == 2
    for one, many in zip(alone.table.rows, found.table.rows, strict=True):
        assert many.max_abs == one.max_abs
        assert many.nmse == one.nmse
    assert alone.of_masks.mask_iou_mean < 1
    assert found.of_masks.mask_iou_mean == pytest.approx((1 + alone.of_masks.mask_iou_mean) / 2)
    assert found.of_masks.mask_iou_min == alone.of_masks.mask_iou_min


def test_outputs_of_other_probes_cannot_be_compared(outputs) -> None:
    other = replace(outputs[0], tensors={"probabilities": np.zeros(1)})
    with pytest.raises(ParityError, match="embedding"):
        comparison.compare(outputs, (other,))


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
        tiny, {"mask_head": Off(graphs["mask_head"], 1.001)}, precision="fp16", images=[IMAGE]
    )
    assert found.of_masks.mask_iou_min == 1.0
    assert {row.name: row for row in found.table.rows}["low_res_logits"].relative > 5e-4
    with pytest.raises(ParityError, match=r"tiny-sam in fp16(.*\n)*.*low_res_logits"):
        comparison.gate(
            tiny, {"mask_head": Off(graphs["mask_head"], -1.0)}, precision="fp16", images=[IMAGE]
        )
    with pytest.raises(ParityError, match="max_relative"):
        comparison.gate(
            tiny,
            {"decoder": Off(graphs["decoder"], 1.01)},
            precision="fp32",
            images=[IMAGE],
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
    ("text", "expected"),
    [
        ("onnxruntime:fp32", Configuration("onnxruntime", "fp32")),
        ("torch", Configuration("torch", "auto")),
        ("tensorrt-rtx:", Configuration("tensorrt-rtx", "auto")),
    ],
)
def test_a_configuration_is_a_backend_and_a_precision(text: str, expected: Configuration) -> None:
    assert Configuration.parse(text) == expected
    assert Configuration.parse(str(expected)) == expected


@pytest.mark.parametrize("text", ["", ":fp16", "a:b:c"])
def test_other_texts_are_no_configuration(text: str) -> None:
    with pytest.raises(BackendError, match="BACKEND:PRECISION"):
        Configuration.parse(text)


def test_a_passed_comparison_ends_with_0_and_names_both_sides(tiny: ModelFolder, capsys) -> None:
    two = ("--a", "onnxruntime:fp32", "--b", "onnxruntime")
    code, document = call(capsys, "compare", tiny.path, *two)
    assert code == 0
    assert document["images"] == ["generated"]
    assert document["limits"] == {"max_relative": 1e-4, "min_iou": 0.99}
    assert document["passed"] is True
    assert document["b"] == {"backend": "onnxruntime", "device": "cpu", "precision": "fp32"}
    assert [row["name"] for row in document["rows"]][-1] == "masks"
    assert document["masks_kept"][0] == document["masks_kept"][1]


def test_outputs_too_far_apart_end_with_1(tiny: ModelFolder, tmp_path, capsys, monkeypatch) -> None:
    truthful = probes.run_probes
    factors = iter((1.0, 1.01, 1.0, 1.01))

    def distorted(folder: ModelFolder, choice: Choice, prepared: list[Probe]) -> Any:
        factor = np.float32(next(factors))
        found = truthful(folder, choice, prepared)
        return [
            replace(one, tensors={k: v * factor for k, v in one.tensors.items()}) for one in found
        ]

    monkeypatch.setattr(probes, "run_probes", distorted)
    image = tmp_path / "image.png"
    Image.fromarray(IMAGE).save(image)
    two = ["--image", str(image), "--a", "onnxruntime", "--b", "onnxruntime"]
    assert run(["compare", str(tiny.path), *two]) == 1
    assert "NOT within" in capsys.readouterr().out
    assert run(["compare", str(tiny.path), *two, "--mean-iou", "0.9"]) == 0
    assert "within the limits: mean_iou 0.9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ("torch:fp32", "--checkpoint"),
        ("tensorrt:fp16", "tensorrt"),
        ("onnxruntime:int8", "int8"),
        ("rounded:fp16", "no graphs in fp16"),
        ("rounded:fp32", "fp16"),
    ],
)
def test_an_unavailable_configuration_is_a_bad_call(tiny, capsys, configuration, reason) -> None:
    code, document = call(capsys, "compare", tiny.path, "--a", "onnxruntime", "--b", configuration)
    assert code == 2
    assert reason in document["error"]["message"]


def test_an_export_gives_the_outputs_of_its_network_in_torch(
    small_modules, small_folder, tmp_path, monkeypatch, capsys
) -> None:
    from fastseg.export import reference as torch_reference

    monkeypatch.setattr(torch_reference.sam_checkpoint, "read", lambda path: path)
    monkeypatch.setattr(torch_reference, "load_modules", lambda _: small_modules)
    two = ("--a", "torch:fp32", "--b", "onnxruntime:fp32", "--checkpoint", tmp_path / "small.pth")
    code, document = call(capsys, "compare", small_folder, *two)
    assert code == 0
    assert document["a"] == {"backend": "torch", "device": "cpu", "precision": "fp32"}
    worst = {row["name"]: row["relative"] for row in document["rows"]}
    assert worst["embedding"] <= 1e-5
    assert worst["low_res_logits"] <= 1e-5


@pytest.mark.slow
def test_the_embedded_network_gives_the_outputs_of_torch(capsys) -> None:
    pytest.importorskip("torch", reason="the reference needs torch")
    from tests.helpers.reference_sam import NANO_WEIGHTS

    if not NANO_WEIGHTS.is_file():
        pytest.skip("the weights of sam-nano for torch are not in this tree")
    two = ("--a", "torch", "--b", "onnxruntime:fp32", "--checkpoint", NANO_WEIGHTS)
    code, document = call(capsys, "compare", "sam-nano", *two, "--image", PICTURE)
    assert code == 0, document
    assert document["masks_kept"][0] == document["masks_kept"][1] > 0
