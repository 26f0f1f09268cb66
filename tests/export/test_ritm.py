"""RITM computes what its plain form computes, and its checkpoints become model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg import artifacts
from fastseg.backends.tensorrt.builder import BuildOptions, build_engine
from fastseg.backends.tensorrt.library import TENSORRT_RTX
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.identify import identify
from fastseg.export.networks.ritm import SHAPES, Ritm
from fastseg.export.promptable import export_checkpoint
from fastseg.export.reference import torch_network
from fastseg.export.sam import check_folder
from fastseg.validation.comparison import REFERENCE, compare
from fastseg.validation.probes import build_probe, run_probes
from fastseg.validation.synthetic import scenes
from tests.helpers.reference_ritm import Network, Predictor, random_weights

CONFIG = {"class": "isegm.model.HRNetModel", "params": {"width": {"value": 18}}}


def relative(found: Any, expected: Any) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def h18s() -> Any:
    return random_weights(Ritm(SHAPES["ritm-h18s"]))


def saved(path: Path, network: Any, **changed: Any) -> Path:
    torch.save({"state_dict": {**network.state_dict(), **changed}, "config": CONFIG}, path)
    return path


def compared(network: Any, name: str, size: tuple[int, int]) -> float:
    random = torch.Generator().manual_seed(3)
    image = torch.randn(2, 3, *size, generator=random)
    guidance = torch.rand(2, 3, *size, generator=random)
    with torch.inference_mode():
        plain = Network(network.state_dict(), SHAPES[name])(image, guidance)
        return relative(network(image, guidance), plain)


def test_h18s_is_its_plain_form_at_a_size_that_no_stride_divides(h18s):
    assert compared(h18s, "ritm-h18s", (61, 83)) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("ritm-h18", 1e-5), ("ritm-h32", 2e-5)])
def test_the_larger_networks_are_their_plain_forms(name, most):
    assert compared(random_weights(Ritm(SHAPES[name])), name, (61, 83)) <= most


def test_a_published_layout_is_recognised_and_tells_its_preparation(h18s, tmp_path):
    found = identify(saved(tmp_path / "coco_lvis_h18s_itermask.pth", h18s))
    assert (found.kind.name, found.preparation, found.unused) == ("ritm-h18s", "ritm", ())
    assert found.as_dict()["title"] == "RITM, HRNet-W18s"


def test_a_network_without_the_previous_mask_is_told_from_ritm(h18s, tmp_path):
    two = {"maps_transform.0.weight": torch.zeros(16, 2, 1, 1)}
    with pytest.raises(CheckpointError, match=r"nearest is RITM, HRNet-W18s.*maps_transform\.0"):
        identify(saved(tmp_path / "coco_lvis_h18_baseline.pth", h18s, **two))


def test_weights_that_are_not_finite_are_refused(h18s, tmp_path):
    bad = {"feature_extractor.cls_head.bias": torch.tensor([float("nan")])}
    with pytest.raises(CheckpointError, match=r"cls_head\.bias.*not finite"):
        identify(saved(tmp_path / "diverged.pth", h18s, **bad))


@pytest.fixture(scope="module")
def exported(h18s, tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint of the published layout, and its model folder."""
    base = tmp_path_factory.mktemp("h18s")
    checkpoint, out = saved(base / "coco_lvis_h18s_itermask.pth", h18s), base / "ritm-h18s"
    assert export_checkpoint(checkpoint, out).within(1e-5)
    return checkpoint, out


@pytest.mark.slow
def test_its_graph_becomes_an_engine_for_images_of_any_size(needs_rtx, exported):
    folder = artifacts.read(exported[1])
    stored = folder.graph_file("network")
    options = BuildOptions(TENSORRT_RTX, ("portable",))
    assert len(build_engine(folder.file(stored), stored.graph, options)) >= 4 * 4_000_000


@pytest.mark.slow
def test_a_checkpoint_becomes_a_folder_that_clicks_as_the_plain_predictor(h18s, exported):
    checkpoint, out = exported
    assert check_folder(out, checkpoint).within(1e-5)
    manifest = json.loads((out / "model.json").read_text())
    assert manifest["source"]["kind"] == "ritm-h18s"
    assert manifest["source"]["parameters"] == 4_220_047
    folder = artifacts.read(out)
    probes = [build_probe(folder.manifest, image) for image in (scenes([11])[0][::4, ::4].copy(),)]
    theirs = [torch_network(folder.manifest, checkpoint).run(one) for one in probes]
    found = compare(theirs, run_probes(folder, REFERENCE, probes))
    assert found.table.within(1e-4)
    image = scenes([23])[0][::2, ::2].copy()
    predictor = Predictor(
        Network(h18s.state_dict(), SHAPES["ritm-h18s"]), image, {"side": 400, "least": 200}
    )
    clicks = [(120, 90, 1), (200, 150, 1), (40, 40, 0), (300, 20, 1)]
    with fastseg.load(out) as model:
        ready = model.embed(image)
        for count in range(1, len(clicks) + 1):
            x, y, label = clicks[count - 1]
            with torch.inference_mode():
                expected = predictor.click(y, x, label == 1) > 0.49
            points = np.array([[x, y] for x, y, _ in clicks[:count]], np.float64)
            masks = model.segment(ready, points=points, labels=[one[2] for one in clicks[:count]])
            assert np.mean(masks.array()[0] != expected) <= 1e-5
