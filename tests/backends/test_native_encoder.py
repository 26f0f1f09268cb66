"""The native image encoder behind a model folder: who runs it, and from which file."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")
onnx = pytest.importorskip("onnx", reason="exports need onnx")
pytest.importorskip("onnxruntime", reason="exports are compared in ONNX Runtime")

import fastseg
from fastseg import artifacts, ops
from fastseg.artifacts import safetensors
from fastseg.backends.base import NotServedError, Plan
from fastseg.backends.native import runtime as native
from fastseg.backends.selection import exactly, plan
from fastseg.errors import BackendError, EmbeddingError, ModelFolderError
from fastseg.export.fp16 import convert as fp16_convert
from fastseg.validation.comparison import Limits
from tests.helpers.exported_sam import SMALL

SIDE = SMALL.side

needs_amx = pytest.mark.skipif(
    "amx-bf16" not in ops.kernel_tables(), reason="this processor has no AMX"
)


@pytest.fixture(scope="module")
def folder(vit_small):
    """Model folder of a small vision transformer with SAM's decoder."""
    return vit_small.folder


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (200, 256, 3), dtype=np.uint8)


def test_graph_and_kernel_read_the_same_weights(folder):
    graph = onnx.load(folder / "encoder.onnx", load_external_data=False)
    outside = {
        entry.value
        for weight in graph.graph.initializer
        for entry in weight.external_data
        if entry.key == "location"
    }
    assert outside == {"encoder.safetensors"}
    inside = sum(len(weight.raw_data) for weight in graph.graph.initializer)
    assert inside < 0.1 * (folder / "encoder.safetensors").stat().st_size
    stored = artifacts.read(folder).manifest
    assert stored.graphs["encoder"].data == (stored.weights["encoder"],)
    assert len(set(stored.files)) == len(stored.files)


def test_the_file_holds_every_weight_with_linear_layers_turned(folder):
    held = safetensors.read(folder / "encoder.safetensors")
    assert held["blocks.0.attn.qkv.kernel"].shape == (64, 192)
    assert held["blocks.1.attn.rel_pos_h"].shape == (31, 16)
    assert held["neck.2.weight"].shape == (256, 256, 3, 3)
    assert not any(name.endswith(("qkv.weight", "lin1.weight")) for name in held)


@needs_amx
@pytest.mark.parametrize("backend", ["auto", "native"])
def test_bf16_takes_it_and_embeds_as_the_graph_does(folder, backend):
    exact = fastseg.load(folder, backend="onnxruntime", precision="fp32")
    model = fastseg.load(folder, backend=backend, precision="bf16", threads=1)
    assert model.runs["encoder"] == "native:cpu bf16"
    expected = np.asarray(exact.embed(noise()).features)
    found = np.asarray(model.embed(noise()).features)
    assert np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()) < 0.01


@needs_amx
def test_every_model_of_the_folder_takes_its_embeddings(folder):
    model = fastseg.load(folder, precision="bf16", threads=1)
    exact = fastseg.load(folder, backend="onnxruntime", precision="fp32")
    embedding = model.embed(noise())
    for answering in (model, exact):
        assert len(answering.segment(embedding, points=[[100, 100]])) == 3


def test_other_weights_are_another_encoder(folder, copy):
    file = copy / "encoder.safetensors"
    content = bytearray(file.read_bytes())
    content[-4:] = np.float32(0.5).tobytes()
    file.write_bytes(content)
    described = json.loads((copy / "model.json").read_text())
    stored = artifacts.stored_file(file)
    for entry in (described["weights"]["encoder"], described["graphs"]["encoder"]["data"][0]):
        entry.update(sha256=stored.sha256)
    (copy / "model.json").write_text(json.dumps(described))
    changed, model = fastseg.load(copy, precision="fp32"), fastseg.load(folder, precision="fp32")
    assert changed.encoder_sha256 != model.encoder_sha256
    with pytest.raises(EmbeddingError, match="Embed the image with the model"):
        changed.segment(model.embed(noise()), points=[[100, 100]])


@pytest.mark.parametrize("precision", ["auto", "fp32"])
@pytest.mark.parametrize("backend", ["auto", "native"])
def test_float32_takes_it_where_it_was_measured_to_be_faster(
    folder, backend, precision, monkeypatch
):
    monkeypatch.setattr(native, "tables", lambda: ("avx2", "portable"))
    assert str(plan(artifacts.read(folder), "encoder", backend=backend, precision=precision)) == (
        "native:cpu fp32"
    )
    monkeypatch.setattr(native, "tables", lambda: ("avx512", "avx2", "portable"))
    assert plan(
        artifacts.read(folder), "encoder", backend=backend, precision=precision
    ).backend in ("onnxruntime", "openvino")


def test_a_tuned_plan_may_name_it_where_auto_would_not_take_it(folder, monkeypatch):
    monkeypatch.setattr(native, "tables", lambda: ("avx512", "portable"))
    found = plan(artifacts.read(folder), "encoder", backend=exactly("native"), precision="fp32")
    assert str(found) == "native:cpu fp32"


def test_float32_takes_it_anywhere_if_it_is_named_for_images(folder):
    exact = fastseg.load(folder, backend="onnxruntime", precision="fp32")
    model = fastseg.load(folder, backend="native+native", precision="fp32")
    assert model.runs["encoder"] == "native:cpu fp32"
    expected = np.asarray(exact.embed(noise()).features)
    found = np.asarray(model.embed(noise()).features)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["bf16", "int8", "fp16"])
def test_another_precision_is_not_answered_in_float32(folder, precision, monkeypatch):
    monkeypatch.setattr(native, "tables", lambda: ("avx2", "portable"))
    with pytest.raises(BackendError, match=f"{precision}"):
        native.NATIVE.resolve(artifacts.read(folder), "encoder", precision)


@pytest.mark.slow
def test_adding_fp16_copies_the_weights_and_spares_the_source(copy, tmp_path):
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in copy.iterdir()}
    fp16_convert.add_fp16(copy, tmp_path / "mixed", images=[noise()], limits=Limits())
    after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in copy.iterdir()}
    assert after == before
    mixed = artifacts.read(tmp_path / "mixed").manifest
    assert mixed.weights == artifacts.read(copy).manifest.weights
    assert {graph.precision for graph in mixed.graphs.values()} == {"fp32", "fp16"}


def test_without_amx_it_leaves_the_image_to_another_runtime(folder, monkeypatch):
    monkeypatch.setattr(native, "tables", lambda: ("avx512-bf16", "portable"))
    with pytest.raises(NotServedError, match="where the processor has AMX"):
        native.NATIVE.resolve(artifacts.read(folder), "encoder", "bf16")


def test_an_encoder_of_another_kind_is_not_its(small_folder):
    with pytest.raises(NotServedError, match="does not know the encoder"):
        native.NATIVE.resolve(artifacts.read(small_folder), "encoder", "bf16")


def test_altered_weights_are_found_at_load(copy):
    content = bytearray((copy / "encoder.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "encoder.safetensors").write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"encoder\.safetensors was altered"):
        fastseg.load(copy)


@needs_amx
def test_weights_of_another_shape_are_refused_with_file_and_name(copy):
    file = copy / "encoder.safetensors"
    held = safetensors.read(file)
    safetensors.write(file, {**held, "neck.1.weight": held["neck.1.weight"][:9]})
    described = json.loads((copy / "model.json").read_text())
    stored = artifacts.stored_file(file)
    for entry in (described["weights"]["encoder"], described["graphs"]["encoder"]["data"][0]):
        entry.update(sha256=stored.sha256, bytes=stored.bytes)
    (copy / "model.json").write_text(json.dumps(described))
    with pytest.raises(ModelFolderError, match=r"encoder\.safetensors: .*neck\.1\.weight is"):
        fastseg.load(copy, precision="bf16").embed(noise())


@needs_amx
def test_closed_or_given_what_does_not_fit_it_says_so(folder):
    read = artifacts.read(folder)
    stored, computes = native.NATIVE.resolve(read, "encoder", "bf16")
    plan = Plan("native", "cpu", stored, computes)
    backend = native.NATIVE.open_graph(read, plan, threads=1, keep_memory=False)
    with pytest.raises(BackendError, match="image"):
        backend.run({"image": np.zeros((1, 3, 64, 64), np.float32)})
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run({"image": np.zeros((1, 3, SIDE, SIDE), np.float32)})
