"""The native decoder as a runtime: chosen where the folder has its weights, equal to the graphs."""

from __future__ import annotations

import json
import shutil
import weakref
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg import artifacts, ops
from fastseg.artifacts import ModelFolder, registry, safetensors
from fastseg.artifacts.rules import BEST, OutputRules
from fastseg.backends.native import runtime as native
from fastseg.backends.selection import open_graph, plan
from fastseg.environment import usable_cores
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError
from fastseg.inference.sessions import Choice, Sessions

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SERVED = ("image_state", "decoder", "decoder_mask", "mask_head")
RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.standard_normal((1, 256, 64, 64), dtype=np.float32)
POINTS = {
    "point_coords": 1024 * RANDOM.random((3, 2, 2), dtype=np.float32),
    "point_labels": np.array([[1, -1], [2, 3], [0, 1]], np.int32),
}
MASKS = {"mask_input": 4 * RANDOM.standard_normal((3, 1, 256, 256), dtype=np.float32)}


@pytest.fixture(scope="module")
def nano() -> ModelFolder:
    return artifacts.read(registry.find("sam-nano"))


@pytest.fixture
def copy(nano, tmp_path) -> Path:
    return Path(shutil.copytree(nano.path, tmp_path / "model"))


def rewrite(folder: Path, weights: dict[str, np.ndarray]) -> None:
    """Put other weights into a folder, hashes and all."""
    file = folder / "decoder.safetensors"
    safetensors.write(file, weights)
    document = json.loads((folder / "model.json").read_text())
    stored = artifacts.stored_file(file)
    document["weights"]["decoder"] = {
        "file": stored.file,
        "sha256": stored.sha256,
        "bytes": stored.bytes,
    }
    (folder / "model.json").write_text(json.dumps(document))


def answer(folder: ModelFolder, backend: str, precision: str, *, masked: bool):
    """Logits and IoU predictions of the prompts, graph by graph."""

    def run(name, arrays):
        graph = open_graph(folder, name, backend=backend, precision=precision, threads=2)
        names = {tensor.name for tensor in graph.graph.inputs}
        return graph.run({name: arrays[name] for name in names})

    arrays = {"embedding": FEATURES, **POINTS, **MASKS}
    arrays |= run("image_state", arrays)
    found = run("decoder_mask" if masked else "decoder", arrays)
    return run("mask_head", arrays | found)["low_res_logits"], found["iou_predictions"]


@pytest.mark.parametrize("masked", [False, True], ids=["points", "points and masks"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_it_answers_as_the_graphs_of_the_folder(nano, masked, precision, tolerance):
    if precision not in native.precisions():
        pytest.skip(f"this processor has no instructions for {precision}")
    expected = answer(nano, "onnxruntime", "fp32", masked=masked)
    for actual, wanted in zip(
        answer(nano, "native", precision, masked=masked), expected, strict=True
    ):
        assert actual.shape == wanted.shape
        assert np.abs(actual - wanted).max() <= tolerance * np.abs(wanted).max()


def test_auto_runs_prompts_natively_and_the_image_elsewhere(nano):
    graphs = Sessions(nano, Choice("cpu", "auto", "fp32"))
    assert graphs.backend == "onnxruntime+native"
    assert {graphs.plans[name].backend for name in SERVED} == {"native"}
    assert {graphs.runs[name] for name in SERVED} == {"native:cpu fp32"}
    graphs.close()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_runtime_that_is_named_keeps_the_whole_model(nano, name):
    pytest.importorskip(name, reason=f"{name} is not installed")
    assert {each.backend for each in Sessions(nano, Choice(backend=name)).plans.values()} == {name}


def test_named_alone_it_leaves_the_image_to_auto(nano):
    assert Sessions(nano, Choice(backend="native")).backend == "onnxruntime+native"


def test_a_network_for_frames_runs_on_it_in_fp32_too():
    with fastseg.load("echo-a4c", backend="native", precision="fp32") as model:
        assert (model.backend, model.precision) == ("native", "fp32")
    with pytest.raises(BackendError, match=r"frames in int8 here.*backend=\"auto\""):
        fastseg.load("echo-a4c", backend="native", precision="int8")


def test_a_folder_of_an_earlier_version_runs_on_its_graphs(copy):
    document = json.loads((copy / "model.json").read_text())
    del document["weights"]
    (copy / "model.json").write_text(json.dumps(document))
    folder = artifacts.read(copy)
    assert Sessions(folder, Choice("cpu", "auto", "fp32")).backend == "onnxruntime"
    with pytest.raises(BackendError, match=r"no weights for native.*Export the model again"):
        Sessions(folder, Choice(backend="native"))


def test_bf16_is_for_processors_that_have_it(nano, monkeypatch):
    wanted = "bf16" if "bf16" in native.precisions() else "fp32"
    assert plan(nano, "decoder", backend="native", precision="bf16").precision == wanted
    monkeypatch.setattr(ops, "kernel_tables", lambda: ("avx2", "portable"))
    monkeypatch.setattr(native, "tables", cache(native.tables.__wrapped__))
    assert plan(nano, "decoder", backend="native", precision="bf16").precision == "fp32"
    with pytest.raises(BackendUnavailableError, match="native in bf16 is not available"):
        native.NATIVE.require("cpu", "bf16")
    with pytest.raises(BackendError, match="fp32 or bf16, not in 'fp16'"):
        plan(nano, "decoder", backend="native", precision="fp16")
    assert plan(nano, "decoder", backend="native", precision="int8").precision == "fp32"
    with pytest.raises(BackendUnavailableError, match="cuda"):
        plan(nano, "decoder", backend="native", device="cuda")


@pytest.mark.parametrize(("asked", "used"), [(0, usable_cores()), (1, 1), (1000, usable_cores())])
def test_it_uses_no_more_threads_than_there_are_cores(nano, monkeypatch, asked, used):
    seen = []

    def image_state(_, embedding, *, threads):
        seen.append(threads)
        return embedding

    monkeypatch.setattr(ops.DecoderKernel, "image_state", image_state)
    graph = open_graph(nano, "image_state", backend="native", threads=asked)
    graph.run({"embedding": FEATURES})
    assert seen == [used]


def test_graphs_share_one_kernel_that_is_freed_with_the_last(nano):
    opened = [open_graph(nano, name, backend="native") for name in SERVED]
    assert len({id(graph._kernel) for graph in opened}) == 1
    kernel = weakref.ref(opened[0]._kernel)
    assert kernel() is not None
    for graph in opened:
        graph.close()
        graph.close()
        with pytest.raises(BackendError, match="was closed"):
            graph.run({})
    assert kernel() is None


def test_inputs_that_do_not_fit_are_refused(nano):
    graph = open_graph(nano, "decoder", backend="native")
    with pytest.raises(BackendError, match="decoder takes"):
        graph.run(POINTS)
    state = open_graph(nano, "image_state", backend="native").run({"embedding": FEATURES})
    with pytest.raises(BackendError, match="point_coords of decoder has shape"):
        graph.run({**POINTS, "point_coords": POINTS["point_coords"][:, :, :1], **state})
    with pytest.raises(BackendError, match="states must be"):
        graph.run({**POINTS, "shared_image": state["shared_image"][:, :-1]})


def test_weights_of_another_shape_are_refused_with_file_and_name(copy):
    weights = safetensors.read(copy / "decoder.safetensors")
    weights["mask_decoder.iou_token.weight"] = np.zeros((2, 256), np.float32)
    rewrite(copy, weights)
    with pytest.raises(ModelFolderError, match=r"decoder\.safetensors.*iou_token\.weight is \(2,"):
        open_graph(artifacts.read(copy), "decoder", backend="native")


def test_a_file_that_holds_something_else_is_refused(copy):
    rewrite(copy, {"something": np.zeros(3, np.float32)})
    with pytest.raises(ModelFolderError, match=r"decoder\.safetensors.*there is no prompt_encoder"):
        open_graph(artifacts.read(copy), "decoder", backend="native")


def test_altered_weights_are_found_at_load(copy):
    content = bytearray((copy / "decoder.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "decoder.safetensors").write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"decoder\.safetensors was altered"):
        fastseg.load(copy)


def test_masks_and_mask_prompts_are_those_of_the_graphs():
    image = RANDOM.integers(0, 256, (90, 120, 3)).astype(np.uint8)
    points = [[[30.0, 40.0]], [[80.0, 20.0]]]
    models = [
        fastseg.load("sam-nano", backend=name) for name in ("onnxruntime", "onnxruntime+native")
    ]
    embedding = models[0].embed(image)
    first = [model.segment(embedding, points=points) for model in models]
    again = [
        model.segment(embedding, points=points, mask_logits=first[0].logits[::3])
        for model in models
    ]
    for graphs, kernel in (first, again):
        np.testing.assert_allclose(kernel.scores, graphs.scores, atol=2e-5)
        scale = np.abs(graphs.logits).max()
        assert np.abs(kernel.logits - graphs.logits).max() <= 2e-5 * scale


@pytest.mark.parametrize("drawn", ["single", "all", "best"])
@pytest.mark.parametrize(("prompts", "masked"), [(1, False), (1, True), (70, False), (20, True)])
def test_segment_finds_the_same_in_one_stage_and_in_two(monkeypatch, drawn, prompts, masked):
    image = RANDOM.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    points = RANDOM.uniform(0, 60, (prompts, 1, 2))
    with fastseg.load("sam-nano", backend="onnxruntime+native") as model:
        embedding = model.embed(image)
        asked = {"points": points, "multimask": drawn != "single"}
        if masked:
            asked["mask_logits"] = model.segment(embedding, points=points).logits[::3]
        if drawn == "best":
            monkeypatch.setattr(model.decoder, "_rules", OutputRules(multiple=BEST))
        at_once = model.segment(embedding, **asked)
        monkeypatch.setattr(Sessions, "decode_above", lambda *_: None)
        in_turn = model.segment(embedding, **asked)
    assert len(at_once) == prompts * (3 if drawn == "all" else 1)
    assert at_once.runs.lists() == in_turn.runs.lists()
    np.testing.assert_array_equal(at_once.scores, in_turn.scores)
    np.testing.assert_array_equal(at_once.logits, in_turn.logits)
    np.testing.assert_array_equal(at_once.prompt, in_turn.prompt)


@pytest.mark.parametrize("size", [(90, 120), (120, 50)])
def test_everything_finds_the_same_in_one_stage_and_in_two(monkeypatch, size):
    image = RANDOM.integers(0, 256, (*size, 3)).astype(np.uint8)
    wide = {"points_per_side": 4, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    with fastseg.load("sam-nano", backend="onnxruntime+native") as model:
        everything = model.everything(image, pred_iou_thresh=-1e9, **wide)
        middle = float(np.median(everything.scores))
        at_once = model.everything(image, pred_iou_thresh=middle, **wide)
        nothing = model.everything(image, pred_iou_thresh=1e9, **wide)
        monkeypatch.setattr(Sessions, "decode_above", lambda *_: None)
        in_turn = model.everything(image, pred_iou_thresh=middle, **wide)
    assert 0 < len(at_once) < len(everything)
    assert len(nothing) == 0
    assert at_once.runs.lists() == in_turn.runs.lists()
    np.testing.assert_array_equal(at_once.scores, in_turn.scores)
    np.testing.assert_array_equal(at_once.prompt, in_turn.prompt)
