"""The native U-Net behind a model folder: which graphs it runs, and which it leaves to others."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="masks are compared with ONNX Runtime's")

import fastseg
from fastseg import artifacts, ops
from fastseg.artifacts import safetensors
from fastseg.backends.base import NotServedError, Plan
from fastseg.backends.native import runtime as native
from fastseg.backends.selection import plan
from fastseg.errors import BackendError, ModelFolderError
from fastseg.testing import tiny_unet_folder
from training.echo.phantom import generate

EMBEDDED = Path(fastseg.__file__).parent / "models"
NAMES = ("echo-a2c", "echo-a4c", "echo-sax")

needs_amx = pytest.mark.skipif(
    ops.UNET_KERNEL_TABLE not in ops.kernel_tables(), reason="this processor has no AMX"
)

in_each_precision = pytest.mark.parametrize(
    "precision", ["fp32", pytest.param("bf16", marks=needs_amx)]
)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(EMBEDDED / "echo-a4c", tmp_path / "copy")


def described(folder: Path, change) -> artifacts.ModelFolder:
    """Read a folder again after a change of what its ``model.json`` says."""
    document = json.loads((folder / "model.json").read_text())
    change(document)
    (folder / "model.json").write_text(json.dumps(document))
    return artifacts.read(folder)


def with_weights(folder: Path, change) -> artifacts.ModelFolder:
    """Read a folder again after a change of its weights, whose new hash ``model.json`` says."""
    file = folder / "network.safetensors"
    weights = safetensors.read(file)
    change(weights)
    safetensors.write(file, weights)
    stored = asdict(artifacts.stored_file(file))

    def note(document) -> None:
        document["weights"]["network"] = stored
        document["graphs"]["network"]["data"] = [stored]

    return described(folder, note)


def phantoms(name: str, count: int) -> list[np.ndarray]:
    """Generated frames of a view, (256, 256, 3 or 1)."""
    drawn = [generate(np.random.default_rng(seed), name[-3:]) for seed in range(count)]
    return [phantom.frame.transpose(1, 2, 0) for phantom in drawn]


def ious(found, expected) -> np.ndarray:
    """Of every mask with that of the same chamber, for a clip."""
    pairs = [(one.array(), other.array()) for one, other in zip(found, expected, strict=True)]
    both = np.concatenate([(one & other).sum((1, 2)) for one, other in pairs])
    return both / np.concatenate([(one | other).sum((1, 2)) for one, other in pairs])


@needs_amx
@pytest.mark.parametrize("name", NAMES)
def test_bf16_takes_it_and_masks_are_those_of_the_graph(name):
    frames = phantoms(name, 6)
    exact = fastseg.load(name, backend="onnxruntime", precision="fp32", threads=1)
    model = fastseg.load(name, precision="bf16", threads=1)
    assert model.runs == {"network": "native:cpu bf16"}
    assert (model.backend, model.precision) == ("native", "bf16")
    expected, found = (each.segment(frames, channels="ycbcr") for each in (exact, model))
    assert all(ours.names == theirs.names for ours, theirs in zip(found, expected, strict=True))
    agreement = ious(found, expected)
    assert agreement.mean() >= 0.99
    assert agreement.min() >= 0.95


@in_each_precision
def test_named_it_runs_as_well(precision):
    model = fastseg.load("echo-a4c", backend="native", precision=precision)
    assert model.runs == {"network": f"native:cpu {precision}"}


@in_each_precision
def test_a_clip_of_any_length_gives_what_its_frames_give(precision):
    model = fastseg.load("echo-a4c", backend="native", precision=precision, threads=2)
    frames = phantoms("echo-a4c", 11)
    together = model.segment(frames, channels="ycbcr")
    for frame, masks in zip(frames, together, strict=True):
        alone = model.segment(frame, channels="ycbcr")
        np.testing.assert_array_equal(alone.array(), masks.array())


@pytest.mark.parametrize("name", NAMES)
def test_in_float32_masks_are_those_of_the_graph(name):
    frames = phantoms(name, 3)
    exact = fastseg.load(name, backend="onnxruntime", precision="fp32", threads=1)
    model = fastseg.load(name, backend="native", threads=1)
    assert model.runs == {"network": "native:cpu fp32"}
    expected, found = (each.segment(frames, channels="ycbcr") for each in (exact, model))
    assert ious(found, expected).min() >= 0.9999


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_auto_takes_float32_where_it_was_measured_to_be_faster(precision, monkeypatch):
    folder = artifacts.read(EMBEDDED / "echo-a4c")
    for table, backend in {
        "avx2": "native",
        "avx512": "onnxruntime",
        "neon": "onnxruntime",
    }.items():
        monkeypatch.setattr(native, "tables", lambda table=table: (table, "portable"))
        assert plan(folder, "network", device="cpu", precision=precision).backend == backend


def test_float32_serves_no_other_precision(monkeypatch):
    monkeypatch.setattr(native, "tables", lambda: ("avx2", "portable"))
    for precision in ("bf16", "int8"):
        with pytest.raises(NotServedError, match=f"networks for frames in {precision} here"):
            native.NATIVE.resolve(artifacts.read(EMBEDDED / "echo-a4c"), "network", precision)


def test_without_amx_it_leaves_frames_to_another_runtime(monkeypatch):
    monkeypatch.setattr(native, "tables", lambda: ("avx512-bf16", "portable"))
    with pytest.raises(NotServedError, match="where the processor has AMX"):
        native.NATIVE.resolve(artifacts.read(EMBEDDED / "echo-a4c"), "network", "bf16")


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_the_graph_bit_for_bit(name):
    onnx = pytest.importorskip("onnx", reason="the graph is read with onnx")
    stored = onnx.load(EMBEDDED / name / "network.onnx").graph.initializer
    expected = {
        each.name.removeprefix("network.").removesuffix(".half"): onnx.numpy_helper.to_array(
            each, base_dir=str(EMBEDDED / name)
        )
        for each in stored
    }
    found = safetensors.read(EMBEDDED / name / "network.safetensors")
    assert found.keys() == expected.keys()
    for layer, array in expected.items():
        np.testing.assert_array_equal(found[layer], array)


@in_each_precision
def test_a_network_without_its_weights_goes_to_the_runtimes(tmp_path, precision):
    folder = artifacts.read(tiny_unet_folder(tmp_path / "tiny"))
    with pytest.raises(NotServedError, match="Export it again"):
        native.NATIVE.resolve(folder, "network", precision)
    assert plan(folder, "network", precision=precision).backend != "native"


@in_each_precision
def test_a_manifest_without_weights_goes_to_the_runtimes(copy, precision):
    folder = described(copy, lambda document: document.pop("weights"))
    with pytest.raises(NotServedError, match="Export it again"):
        native.NATIVE.resolve(folder, "network", precision)
    assert plan(folder, "network", precision=precision).backend != "native"
    assert fastseg.load(copy).segment(phantoms("echo-a4c", 1)[0], channels="ycbcr").names


def _of_another_network(weights) -> None:
    weights["stem.weight"] = weights.pop("down.0.0.weight")


def _flat(weights) -> None:
    weights["down.0.0.weight"] = weights["down.0.0.weight"].reshape(16, 27)


@in_each_precision
@pytest.mark.parametrize("change", [_of_another_network, _flat])
def test_weights_of_another_network_are_left_to_the_runtimes(copy, change, precision):
    folder = with_weights(copy, change)
    with pytest.raises(NotServedError, match="does not hold the weights of the echo U-Net"):
        native.NATIVE.resolve(folder, "network", precision)
    assert plan(folder, "network", precision=precision).backend != "native"


@in_each_precision
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: weights.pop("merge.0.1.bias"), r"merge\.0\.1\.bias"),
        (lambda weights: weights.update({"up.2.weight": np.zeros((2, 2))}), r"up\.2\.weight"),
    ],
)
def test_a_layer_that_is_missing_or_of_another_shape_is_named(copy, change, reason, precision):
    folder = with_weights(copy, change)
    stored, computes = native.NATIVE.resolve(folder, "network", precision)
    chosen = Plan("native", "cpu", stored, computes)
    with pytest.raises(ModelFolderError, match=reason):
        native.NATIVE.open_graph(folder, chosen, threads=1, keep_memory=False)


@in_each_precision
def test_a_file_of_another_format_is_refused_with_its_name(copy, precision):
    (copy / "network.safetensors").write_bytes(b"no arrays")
    folder = artifacts.ModelFolder(copy, artifacts.read(EMBEDDED / "echo-a4c").manifest)
    with pytest.raises(NotServedError, match=r"network\.safetensors holds no arrays"):
        native.NATIVE.resolve(folder, "network", precision)


@in_each_precision
def test_what_model_json_says_of_another_size_is_not_run(copy, precision):
    def one_class_less(document) -> None:
        document["graphs"]["network"]["graph"]["outputs"][0]["shape"][1] = 4

    with pytest.raises(NotServedError, match=r"sizes that model\.json says"):
        native.NATIVE.resolve(described(copy, one_class_less), "network", precision)


@needs_amx
def test_a_narrow_network_is_left_to_the_runtimes(tmp_path):
    pytest.importorskip("torch", reason="exports need torch")
    from fastseg.export.model_folder import Card
    from fastseg.export.networks.unet import UNet
    from fastseg.export.unet import write_unet_folder

    write_unet_folder(UNet(1, 3, 8), tmp_path / "narrow", "sax", Card("narrow"))
    with pytest.raises(NotServedError, match="8 channels at the finest level"):
        native.NATIVE.resolve(artifacts.read(tmp_path / "narrow"), "network", "bf16")


@in_each_precision
def test_closed_or_given_what_does_not_fit_it_says_so(precision):
    folder = artifacts.read(EMBEDDED / "echo-sax")
    stored, computes = native.NATIVE.resolve(folder, "network", precision)
    backend = native.NATIVE.open_graph(
        folder, Plan("native", "cpu", stored, computes), threads=1, keep_memory=False
    )
    with pytest.raises(BackendError, match="frames"):
        backend.run({"frames": np.zeros((1, 3, 256, 256), np.float32)})
    assert backend.run({"frames": np.zeros((2, 1, 256, 256), np.float32)})[
        "probabilities"
    ].shape == (2, 3, 256, 256)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run({"frames": np.zeros((1, 1, 256, 256), np.float32)})
