"""A mixed-precision graph is kept only with the comparison that it passed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg import artifacts
from fastseg.artifacts.manifest import Manifest, from_json, to_json
from fastseg.artifacts.preprocessing import FramePreprocessing
from fastseg.cli.root import run
from fastseg.errors import (
    BackendUnavailableError,
    CheckpointError,
    ModelFolderError,
    ParityError,
)
from fastseg.export import sam
from fastseg.export.fp16 import calibration as fp16_calibration
from fastseg.export.fp16 import convert as fp16_convert
from fastseg.export.fp16.convert import FP16_TENSORS, add_fp16, spelled_out
from fastseg.export.model_folder import Card
from fastseg.export.networks.unet import UNet
from fastseg.export.sam import add_fp16 as add_fp16_from
from fastseg.export.sam import export_sam, write_sam_folder
from fastseg.export.unet import write_unet_folder
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison
from fastseg.validation.comparison import Limits
from fastseg.validation.parity import Table
from fastseg.validation.probes import build_probe, run_probe, run_probes
from fastseg.validation.synthetic import scenes, sectors
from tests.helpers.exported_sam import small_size_known

pytestmark = pytest.mark.usefixtures("remembered_exports")

IMAGES = scenes()[:2]


@pytest.fixture(scope="module")
def both(small_fp16_folder):
    """A small folder with graphs of both precisions."""
    return artifacts.read(small_fp16_folder)


@pytest.fixture(scope="module")
def heart():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(3, 5, width=2).requires_grad_(False)
    manifest = Manifest("unet", "heart", FramePreprocessing(), {})
    probe = build_probe(manifest, next(sectors(1)))
    logits = network(torch.from_numpy(probe.pixels))
    # Probabilities on either side of one half, as a trained network has them.
    scale = 4 / logits.std(dim=(0, 2, 3))
    network.head.weight.mul_(scale.reshape(-1, 1, 1, 1))
    network.head.bias.sub_(scale * logits.mean(dim=(0, 2, 3)))
    return network


@pytest.fixture(scope="module")
def heart_folder(heart, tmp_path_factory):
    """``heart`` exported in both precisions."""
    out = tmp_path_factory.mktemp("models") / "heart"
    write_unet_folder(heart, out, "a4c", Card("heart"), precision="fp16")
    return artifacts.read(out)


def test_both_precisions_stand_in_one_folder(both, small_folder):
    before = artifacts.read(small_folder).manifest.graphs
    graphs = both.manifest.graphs
    assert list(graphs) == [*before, *(f"{name}.fp16" for name in before)]
    assert {name: graphs[name] for name in before} == dict(before)
    for name, single in before.items():
        stored = graphs[f"{name}.fp16"]
        assert (stored.graph.name, stored.precision) == (name, "fp16")
        for one, other in zip(
            stored.graph.inputs + stored.graph.outputs,
            single.graph.inputs + single.graph.outputs,
            strict=True,
        ):
            assert one.shape == other.shape
            assert one.dtype == ("float16" if one.name in FP16_TENSORS else other.dtype)


def test_reasons_and_comparison_are_kept_beside_each_graph(both):
    for stored in both.manifest.graphs.values():
        if stored.precision == "fp32":
            assert stored.blocks == ()
            assert stored.comparison == {}
            continue
        assert {one["precision"] for one in stored.blocks} <= {"fp16", "fp32"}
        assert all(bool(one["reason"]) == (one["precision"] == "fp32") for one in stored.blocks)
        recorded = stored.comparison
        assert recorded["against"] == "onnxruntime:fp32"
        assert recorded["limits"] == {"mean_iou": 0.99, "count_change": 0.05}
        rows = {row["name"]: row for row in recorded["rows"]}
        assert 0.99 <= rows["masks"]["mask_iou_mean"] <= 1
        assert 0 < rows["low_res_logits"]["nmse"] < 1e-4
        assert recorded["masks"] == (8 * 8 + 4 * 4 + 4) * 4


def test_what_holds_the_image_is_half_and_what_only_adds_is_not(both):
    """Sums between the decoder's blocks are of a few tokens; its products read the whole image."""
    decoder = {one["block"]: one["reason"] for one in both.manifest.graphs["decoder.fp16"].blocks}
    assert decoder["layers.1"] == "between blocks"
    for block in (
        "layers.1.token_to_image",
        "layers.1.image_to_token",
        "final_token_to_image",
        "plain.iou_prediction_head.layers",
    ):
        assert decoder[block] == ""
    head = {one["block"]: one["precision"] for one in both.manifest.graphs["mask_head.fp16"].blocks}
    assert set(head.values()) == {"fp16"}


def test_a_manifest_without_blocks_and_comparison_loads(small_folder):
    manifest = artifacts.read(small_folder).manifest
    document = json.loads(to_json(manifest))
    for stored in document["graphs"].values():
        del stored["blocks"], stored["comparison"]
    assert from_json(json.dumps(document)) == manifest


@pytest.mark.parametrize("field", ["blocks", "comparison"])
def test_a_field_of_another_type_is_refused(both, field):
    document = json.loads(to_json(both.manifest))
    document["graphs"]["encoder.fp16"][field] = "fine"
    with pytest.raises(ModelFolderError, match=field):
        from_json(json.dumps(document))


def test_the_pipeline_runs_either_precision_and_says_which(both):
    box = [[10, 10, 60, 50]]
    with fastseg.load(both.path) as single, fastseg.load(both.path, precision="fp16") as model:
        assert single.precision == "fp32"
        masks = model.segment(IMAGES[0], boxes=box)
        expected = single.segment(IMAGES[0], boxes=box)
        assert masks.timings.precision == "fp16"
        embedding = model.embed(IMAGES[0])
        assert {array.dtype.name for array in embedding.state.values()} == {"float16"}
        assert embedding.features.dtype == np.float32
        again = model.segment(embedding, boxes=box, mask_logits=masks.logits[:1])
        assert np.isfinite(again.logits).all()
    np.testing.assert_allclose(masks.scores, expected.scores, rtol=0, atol=5e-3)
    assert 0 < np.abs(masks.logits - expected.logits).max() < 0.02 * np.abs(expected.logits).max()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_constant_image_gives_the_same_masks(both, level):
    probe = build_probe(both.manifest, np.full((48, 64, 3), level, np.uint8))
    expected = run_probes(both, Choice(precision="fp32"), [probe])
    with spelled_out(both) as graphs:
        found = [run_probe(graphs, probe, "fp16")]
    assert comparison.compare(expected, found).within(Limits(mean_iou=0.99))


def test_masks_that_differ_leave_the_folder_as_it_was(heart_folder, tmp_path):
    out, frames = tmp_path / "model", tuple(sectors(1))
    with pytest.raises(ParityError, match=r"float32 masks; it was not kept(.*\n)*masks .*\n?"):
        add_fp16(heart_folder.path, out, images=frames, limits=Limits(mean_iou=1.0))
    assert list(tmp_path.iterdir()) == []


def test_an_export_whose_half_graphs_overflow_keeps_nothing(heart, tmp_path, monkeypatch):
    """With a rule that sees no danger, an overflowing model must fail at the gate."""
    loud = replace_weights(heart, factor=3e5)
    frames = tuple(sectors(1))
    write_unet_folder(loud, tmp_path / "single", "a4c", Card("loud"))
    found = add_fp16(tmp_path / "single", tmp_path / "careful", images=frames)
    assert found.of_masks.mask_iou_mean >= 0.995
    blocks = artifacts.read(tmp_path / "careful").manifest.graphs["network.fp16"].blocks
    assert "overflow" in {one["reason"] for one in blocks}
    monkeypatch.setattr(fp16_calibration, "LARGEST", np.inf)
    monkeypatch.setattr(fp16_calibration, "LOSS", np.inf)
    with pytest.raises(ParityError, match="loud in fp16"):
        write_unet_folder(loud, tmp_path / "naive", "a4c", Card("loud"), precision="fp16")
    assert {path.name for path in tmp_path.iterdir()} == {"single", "careful"}


def replace_weights(network: UNet, *, factor: float) -> UNet:
    """The same function, with numbers in its middle that are ``factor`` times as large."""
    louder = UNet(3, 5, width=2)
    louder.load_state_dict(network.state_dict())
    with torch.no_grad():
        louder.down[1][0].weight.mul_(factor)
        louder.down[1][1].weight.div_(factor)
    return louder


def test_an_export_of_a_network_for_frames_has_both_precisions(heart_folder):
    folder = heart_folder
    assert list(folder.manifest.graphs) == ["network", "network.fp16"]
    stored = folder.manifest.graphs["network.fp16"]
    assert stored.comparison["limits"] == {"mean_iou": 0.995, "count_change": 0.05}
    assert {one["block"] for one in stored.blocks} >= {"network.down.0", "network.head"}
    frame = next(sectors(1))
    with fastseg.load(folder.path, precision="fp16") as model:
        assert model.precision == "fp16"
        found = model.probabilities(frame)
    with fastseg.load(folder.path) as model:
        assert np.abs(found - model.probabilities(frame)).max() < 0.05


def test_an_export_of_sam_converts_what_it_wrote(
    small_modules, small_folder, tmp_path, monkeypatch
):
    """The graphs are those of ``small_folder``, as if they had just been traced."""
    made = artifacts.read(small_folder)

    def traced(source, path, **_):
        shutil.copy(made.file(made.manifest.graphs[source.graph.name]), path)
        return ()

    monkeypatch.setattr(sam, "write", traced)
    monkeypatch.setattr(sam, "compare", lambda *_: Table(()))
    monkeypatch.setattr(comparison, "samples", lambda _: list(IMAGES[:1]))
    write_sam_folder(small_modules, tmp_path / "model", Card("small"), precision="fp16")
    assert "decoder.fp16" in artifacts.read(tmp_path / "model").manifest.graphs


def test_half_graphs_replace_earlier_ones_in_place(heart_folder, tmp_path):
    out = shutil.copytree(heart_folder.path, tmp_path / "model")
    add_fp16(out, out, images=tuple(sectors(2))[1:])
    assert list(artifacts.read(out).manifest.graphs) == list(heart_folder.manifest.graphs)
    assert {path.name for path in out.iterdir()} == {
        path.name for path in heart_folder.path.iterdir()
    }


def test_a_folder_without_float32_graphs_is_refused(both, tmp_path):
    def only_fp16(folder):
        graphs = {k: v for k, v in folder.manifest.graphs.items() if v.precision == "fp16"}
        return replace(folder, manifest=replace(folder.manifest, graphs=graphs))

    with pytest.raises(ModelFolderError, match="lacks float32 graphs"):
        fp16_convert.write_fp16(only_fp16(both))


def test_a_checkpoint_of_another_model_is_refused(both, vit_small, tmp_path):
    with small_size_known(), pytest.raises(CheckpointError, match="not exported from"):
        add_fp16_from(both.path, tmp_path / "out", checkpoint=vit_small.checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_no_export_writes_is_refused(tmp_path):
    with pytest.raises(BackendUnavailableError, match="int8"):
        export_sam(tmp_path / "a.pth", tmp_path / "model", precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_adds_half_graphs(heart_folder, tmp_path, capsys):
    out = tmp_path / "both"
    assert run(["export", "half", str(heart_folder.path), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["precision"], document["device"]) == ("fp16", "cpu")
    assert document["comparison"]["pictures"] == 3
    assert "network.fp16" in artifacts.read(out).manifest.graphs


def test_the_command_line_compares_half_graphs(both, capsys):
    two = ["--a", "onnxruntime:fp32", "--b", "rounded:fp16"]
    assert run(["compare", str(both.path), *two, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["b"] == {"backend": "rounded", "device": "cpu", "precision": "fp16"}
    assert document["limits"] == {"mean_iou": 0.99, "count_change": 0.05}
    assert document["rows"][-1]["mask_iou_mean"] >= 0.99
