"""The table of networks counts what is published, and keeps its exports."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the benchmark exports networks")

from benchmarks.networks import exports, timing
from fastseg.artifacts.manifest import Manifest
from fastseg.artifacts.preprocessing import Preprocessing
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
