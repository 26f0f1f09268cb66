"""The U-Net's folder is written whole, with its comparison, or not at all."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")
onnx = pytest.importorskip("onnx", reason="exports need onnx")

from fastseg import artifacts, contract
from fastseg.artifacts import safetensors
from fastseg.artifacts.preprocessing import FramePreprocessing
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.echo.views import VIEWS
from fastseg.errors import CheckpointError, OutputError, ParityError
from fastseg.export import unet as export
from fastseg.export.model_folder import TOLERANCE, Card
from fastseg.export.networks.unet import UNet
from fastseg.export.onnx import float16_storage
from fastseg.export.unet import export_unet, write_unet_folder
from tests.helpers import keras_unet
from tests.helpers.processes import ROOT, finish
from tests.helpers.scripts import run_script

pytestmark = pytest.mark.usefixtures("remembered_exports")

WIDTH = 8


def network(view: str = "a4c") -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(VIEWS[view].channels, len(VIEWS[view].classes), WIDTH)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "a4c.pt"
    torch.save(network().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("models") / "heart"
    export_unet(weights, out, "a4c", card=Card("", licence="none", source={"study": 7}))
    return out


def answers(folder: Path, frames: np.ndarray) -> np.ndarray:
    stored = artifacts.read(folder).manifest.graphs[contract.UNET_GRAPH]
    backend = OrtBackend(folder / stored.file, stored.graph, threads=1)
    return backend.run({"frames": frames})["probabilities"]


def random_frames(batch: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((batch, channels, 256, 256), np.float32)


def test_the_manifest_names_the_network_and_its_source(folder, weights):
    manifest = artifacts.read(folder).manifest
    assert (manifest.family, manifest.name, manifest.licence) == ("unet", "heart", "none")
    assert manifest.preprocessing == FramePreprocessing(side=256, channels=3)
    assert manifest.view == "a4c"
    assert manifest.classes == ("union", "LA", "LV", "RA", "RV")
    assert manifest.source == {
        "study": 7,
        "file": "a4c.pt",
        "sha256": artifacts.sha256(weights),
        "kind": "unet",
        "view": "a4c",
        "parameters": sum(values.numel() for values in network().state_dict().values()),
    }
    assert "width 8" in manifest.description
    assert {"torch", "onnxruntime"} <= set(manifest.written_by)


def test_the_comparison_is_of_one_frame_and_of_three(folder):
    rows = artifacts.read(folder).manifest.parity
    assert [row["name"] for row in rows] == ["probabilities, batch 1", "probabilities, batch 3"]
    assert all(row["relative"] <= TOLERANCE for row in rows)


def test_the_graph_holds_to_the_contract(folder):
    stored = artifacts.read(folder).manifest.graphs[contract.UNET_GRAPH]
    assert stored.graph == contract.unet_network(256, 3, 5)
    model = onnx.load(folder / stored.file)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (9, 18)
    assert {node.domain for node in model.graph.node} == {""}
    assert model.graph.node[-1].op_type == "Sigmoid"


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_graph_equals_the_network_for_any_batch(folder, batch):
    frames = random_frames(batch)
    with torch.inference_mode():
        expected = torch.sigmoid(network()(torch.from_numpy(frames))).numpy()
    np.testing.assert_allclose(answers(folder, frames), expected, rtol=0, atol=1e-5)


def test_an_exported_keras_network_equals_keras(tmp_path):
    pytest.importorskip("h5py", reason="Keras' files need h5py")
    layers = keras_unet.unet(1, 3, 1)
    path = keras_unet.write(tmp_path / "sax.h5", layers, whole=True)
    export_unet(path, tmp_path / "model", "sax")
    frames = random_frames(1, channels=1)
    logits = keras_unet.forward(layers, frames[0].transpose(1, 2, 0))
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    found = answers(tmp_path / "model", frames)[0].transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_half_the_bytes_hold_the_rounded_network(folder, tmp_path):
    write_unet_folder(network(), tmp_path / "half", "a4c", Card("half"), store="float16")
    frames = random_frames(1)
    whole, half = (
        sum(file.bytes for file in artifacts.read(path).manifest.files)
        for path in (folder, tmp_path / "half")
    )
    assert half < 0.55 * whole
    gap = np.abs(answers(tmp_path / "half", frames) - answers(folder, frames)).max()
    assert 0 < gap < 5e-3


@pytest.mark.parametrize("store", ["float32", "float16"])
def test_the_weights_lie_in_one_file_that_the_graph_refers_to(store, tmp_path):
    write_unet_folder(network(), tmp_path / "model", "a4c", Card("shared"), store=store)
    manifest = artifacts.read(tmp_path / "model").manifest
    stored = manifest.graphs[contract.UNET_GRAPH]
    assert manifest.weights == {contract.UNET_GRAPH: stored.data[0]}
    assert len(stored.data) == 1
    assert stored.bytes < 0.15 * stored.data[0].bytes
    found = safetensors.read(tmp_path / "model" / stored.data[0].file)
    expected = network().eval()
    if store == "float16":
        float16_storage.prepare(expected)
    assert found.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_the_caller_s_network_is_left_as_it_is(tmp_path):
    mine = network().train().to(memory_format=torch.channels_last)
    before = {name: weight.clone() for name, weight in mine.state_dict().items()}
    write_unet_folder(mine, tmp_path / "model", "a4c", Card("copy"), store="float16")
    assert mine.training
    assert all(weight.requires_grad for weight in mine.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in mine.state_dict().items())


def test_a_graph_that_differs_leaves_nothing(tmp_path, monkeypatch):
    right = export.write

    def wrong(source, path, **options):
        with torch.no_grad():
            altered = network()
            altered.head.bias += 0.01
        return right(replace(source, module=export.Probabilities(altered)), path, **options)

    monkeypatch.setattr(export, "write", wrong)
    with pytest.raises(ParityError, match=r"heart differs.*\n(.*\n)*probabilities, batch 3"):
        write_unet_folder(network(), tmp_path / "heart", "a4c", Card("heart"))
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_another_view_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"3 channels and 5 classes.*sax \(1 channels"):
        write_unet_folder(network(), tmp_path / "model", "sax", Card("wrong"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_not_replaced(weights, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="no model folder"):
        export_unet(weights, tmp_path, "a4c")
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_an_interrupted_export_leaves_what_was_there(folder, weights, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(folder, out)

    def interrupt(step: str) -> None:
        if "comparing" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_unet(weights, out, "a4c", card=Card("second"), progress=interrupt)
    assert artifacts.read(out).manifest.name == "heart"
    assert list(tmp_path.iterdir()) == [out]


def test_the_script_exports(weights, tmp_path, capsys, monkeypatch):
    arguments = weights, "a4c", tmp_path / "good", "--store", "float16"
    assert run_script(monkeypatch, "unet_to_onnx.py", *arguments) == 0
    assert "probabilities, batch 3" in capsys.readouterr().out
    assert artifacts.read(tmp_path / "good").manifest.view == "a4c"


def test_the_script_as_a_process_says_in_one_line_what_is_wrong(weights, tmp_path):
    script = ROOT / "export" / "unet_to_onnx.py"
    bad = finish([sys.executable, script, weights, "a2c", tmp_path / "bad"])
    assert bad.returncode == 1
    assert bad.stderr.startswith("CheckpointError")
    assert len(bad.stderr.splitlines()) == 1
    assert not (tmp_path / "bad").exists()
