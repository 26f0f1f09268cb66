"""The table of networks counts what is published, and keeps its exports."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the benchmark exports networks")

from benchmarks.networks import exports, plain, timing
from fastseg.artifacts.manifest import Manifest
from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.export.checkpoints.identify import identify
from fastseg.testing import tiny_sam_folder

PUBLISHED_GMAC = {
    "mobile-sam": 38.8,
    "edge-sam": 20.1,
    "efficientvit-sam-l0": 34.8,
    "efficientvit-sam-l1": 49.0,
    "efficientvit-sam-l2": 68.6,
    "efficientvit-sam-xl0": 184.9,
    "efficientvit-sam-xl1": 321.9,
    "efficient-sam-ti": 102.3,
    "efficient-sam-s": 245.6,
}


@pytest.mark.parametrize("name", PUBLISHED_GMAC)
def test_an_encoder_has_the_published_arithmetic(name):
    found = exports.encoder_gmac(exports.BY_NAME[name])
    assert found == pytest.approx(PUBLISHED_GMAC[name], abs=0.06)


def test_a_network_of_points_and_images_of_any_size_has_no_arithmetic():
    assert exports.encoder_gmac(exports.BY_NAME["ritm-h18s"]) is None


def test_the_file_of_a_plan_tells_its_tiles(tmp_path, monkeypatch):
    small = replace(
        exports.STAGES,
        widths=(4, 8),
        kernels=((3, 3),) * 2,
        strides=((1, 1), (2, 2)),
        encoder=(1, 1),
        decoder=(1,),
    )
    monkeypatch.setattr(exports, "STAGES", small)
    torch.save(exports.content(exports.BY_NAME["nnunet-2d-box"]), tmp_path / "plan.pth")
    found = identify(tmp_path / "plan.pth")
    assert (found.kind.name, found.preparation) == ("nnunet-2d-box", "nnunet")
    assert found.require_preparation().preprocessing.size == exports.TILE


def test_medsam_is_sam_with_another_preparation():
    medsam = exports.BY_NAME["medsam"]
    assert medsam.shapes() == exports.BY_NAME["vit_b"].shapes()
    assert medsam.preparations == ("medsam",)


def test_no_weight_is_the_zero_or_the_one_that_it_begins_with():
    weights = exports.random_weights(exports.BY_NAME["ritm-h18s"])
    for name, each in weights.items():
        assert each.numel() == 1 or bool((each != each.flatten()[0]).any()), name


def test_a_network_with_channels_of_prompts_is_compared_with_its_plain_form(monkeypatch):
    monkeypatch.setattr(plain, "PLAIN_SIZE", (32, 48))
    assert plain.difference(exports.BY_NAME["deeplabv3plus-box"]) <= 1e-5
    assert plain.difference(exports.BY_NAME["edge-sam"]) is None


def test_a_folder_that_is_there_is_reused_and_its_calls_are_timed(tmp_path):
    kind = exports.BY_NAME["edge-sam"]
    tiny_sam_folder(tmp_path / kind.name)
    folder = exports.folder_of(kind, tmp_path, pytest.fail)
    assert folder == tmp_path / kind.name
    assert exports.megabytes(folder) > 0
    found = timing.times(folder, "onnxruntime", points_per_side=2)
    assert found.runs == "onnxruntime"
    assert min(found.embedding_ms, found.point_ms, found.everything_s) > 0


def test_the_largest_difference_is_that_of_any_output():
    rows = ({"name": "embedding", "relative": 2e-6}, {"name": "logits", "relative": 3e-6})
    manifest = Manifest(
        family="sam",
        name="any",
        preprocessing=Preprocessing(1024, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        graphs={},
        parity=rows,
    )
    assert exports.worst_difference(manifest) == 3e-6
