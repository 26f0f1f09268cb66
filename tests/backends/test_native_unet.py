"""The native U-Net behind a model folder: which graphs it runs, and which it leaves to others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are altered with onnx")
pytest.importorskip("onnxruntime", reason="masks are compared with ONNX Runtime's")

import fastseg
from fastseg import artifacts, ops
from fastseg.backends.base import NotServedError, Plan
from fastseg.backends.native import runtime as native
from fastseg.backends.selection import plan
from fastseg.errors import BackendError
from fastseg.testing import tiny_unet_folder
from training.echo.phantom import generate

EMBEDDED = Path(fastseg.__file__).parent / "models"
NAMES = ("echo-a2c", "echo-a4c", "echo-sax")

needs_amx = pytest.mark.skipif(
    ops.UNET_TABLE not in ops.decoder_tables(), reason="this processor has no AMX"
)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(EMBEDDED / "echo-a4c", tmp_path / "copy")


def alter(folder: Path, change) -> None:
    """Change the graph of a folder, and what the folder says of it."""
    file = folder / "network.onnx"
    model = onnx.load(file)
    change(model.graph)
    onnx.save(model, file)
    described = json.loads((folder / "model.json").read_text())
    stored = artifacts.stored_file(file)
    described["graphs"]["network"].update(sha256=stored.sha256, bytes=stored.bytes)
    (folder / "model.json").write_text(json.dumps(described))


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


@needs_amx
def test_named_it_runs_as_well():
    model = fastseg.load("echo-a4c", backend="native", precision="bf16")
    assert model.runs == {"network": "native:cpu bf16"}


@needs_amx
def test_a_clip_of_any_length_gives_what_its_frames_give():
    model = fastseg.load("echo-a4c", precision="bf16", threads=2)
    frames = phantoms("echo-a4c", 11)
    together = model.segment(frames, channels="ycbcr")
    for frame, masks in zip(frames, together, strict=True):
        alone = model.segment(frame, channels="ycbcr")
        np.testing.assert_array_equal(alone.array(), masks.array())


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_float32_leaves_frames_to_the_graph(precision):
    assert not fastseg.load("echo-a4c", precision=precision).runs["network"].startswith("native")
    with pytest.raises(NotServedError, match="bf16 alone"):
        native.settle(artifacts.read(EMBEDDED / "echo-a4c"), "network", precision)


def test_without_amx_it_leaves_frames_to_another_runtime(monkeypatch):
    monkeypatch.setattr(native, "_tables", lambda: ("avx512-bf16", "portable"))
    with pytest.raises(NotServedError, match="where the processor has AMX"):
        native.settle(artifacts.read(EMBEDDED / "echo-a4c"), "network", "bf16")


def test_a_network_of_another_kind_is_left_to_the_runtimes(tmp_path):
    folder = artifacts.read(tiny_unet_folder(tmp_path / "tiny"))
    with pytest.raises(NotServedError, match=r"is not the echo U-Net|AMX|bf16 alone"):
        native.settle(folder, "network", "bf16")
    assert plan(folder, "network", precision="auto").backend != "native"


def _dilate(graph) -> None:
    """Neighbours twice as far away: the same names and shapes, another network."""
    layer = next(node for node in graph.node if "network.down.2.1.weight" in node.input)
    for attribute in layer.attribute:
        if attribute.name in ("dilations", "pads"):
            attribute.ints[:] = [2] * len(attribute.ints)


def _exchange(graph) -> None:
    """What is raised behind what was skipped, instead of before it."""
    joined = next(node for node in graph.node if node.op_type == "Concat")
    joined.input[:] = reversed(joined.input)


def _without_rectifier(graph) -> None:
    next(node for node in graph.node if node.op_type == "Relu").op_type = "LeakyRelu"


@needs_amx
@pytest.mark.parametrize("change", [_dilate, _exchange, _without_rectifier])
def test_a_graph_that_is_nearly_the_network_is_left_to_the_runtimes(copy, change):
    alter(copy, change)
    with pytest.raises(NotServedError, match="is not the echo U-Net"):
        native.settle(artifacts.read(copy), "network", "bf16")
    assert plan(artifacts.read(copy), "network", precision="bf16").backend != "native"


@needs_amx
def test_weights_are_those_of_a_layer_s_place_whatever_they_are_called(copy):
    def rename(graph) -> None:
        """The last layer has no bias and the weights of another one."""
        layer = next(node for node in graph.node if "network.merge.0.1.weight" in node.input)
        layer.input[:] = [layer.input[0], "network.down.0.1.weight"]

    alter(copy, rename)
    exact = fastseg.load(copy, backend="onnxruntime", precision="fp32", threads=1)
    model = fastseg.load(copy, precision="bf16", threads=1)
    assert model.backend == "native"
    frame = phantoms("echo-a4c", 1)[0]
    expected, found = (each.probabilities(frame, channels="ycbcr") for each in (exact, model))
    before = fastseg.load("echo-a4c", precision="bf16", threads=1)
    apart = np.abs(before.probabilities(frame, channels="ycbcr") - expected).mean()
    assert np.abs(found - expected).mean() < 0.05 * apart


@needs_amx
def test_what_model_json_says_of_another_size_is_not_run(copy):
    described = json.loads((copy / "model.json").read_text())
    described["graphs"]["network"]["graph"]["outputs"][0]["shape"][1] = 4
    (copy / "model.json").write_text(json.dumps(described))
    with pytest.raises(NotServedError, match=r"sizes that model\.json says"):
        native.settle(artifacts.read(copy), "network", "bf16")


@needs_amx
def test_a_narrow_network_is_left_to_the_runtimes(tmp_path):
    pytest.importorskip("torch", reason="exports need torch")
    from fastseg.export.model_folder import Card
    from fastseg.export.networks.unet import UNet
    from fastseg.export.unet import write_unet_folder

    write_unet_folder(UNet(1, 3, 8), tmp_path / "narrow", "sax", Card("narrow"))
    with pytest.raises(NotServedError, match="8 channels at the finest level"):
        native.settle(artifacts.read(tmp_path / "narrow"), "network", "bf16")


@needs_amx
def test_closed_or_given_what_does_not_fit_it_says_so():
    folder = artifacts.read(EMBEDDED / "echo-sax")
    stored, computes = native.settle(folder, "network", "bf16")
    backend = native.open_graph(
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
