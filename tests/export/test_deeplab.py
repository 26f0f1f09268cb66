"""DeepLabV3+ with a box channel computes what its plain form computes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg.export.checkpoints.identify import identify
from fastseg.export.networks.deeplab import DeepLab
from fastseg.export.promptable import export_checkpoint
from fastseg.validation.synthetic import scenes
from tests.helpers.random_weights import batch_norm_statistics, scattered
from tests.helpers.reference_deeplab import Network


@pytest.fixture(scope="module")
def network() -> DeepLab:
    torch.manual_seed(0)
    return batch_norm_statistics(scattered(DeepLab()))


def test_it_is_its_plain_form(network):
    random = torch.Generator().manual_seed(0)
    image, box = torch.rand(2, 3, 96, 64, generator=random), torch.zeros(2, 1, 96, 64)
    box[:, :, 20:70, 10:40] = 1
    with torch.inference_mode():
        found, expected = network(image, box), Network(network.state_dict())(image, box)
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


@pytest.mark.slow
def test_its_checkpoint_becomes_a_folder_that_takes_boxes(network, tmp_path):
    # The layout of the comparison's training code: the weights beside the optimiser.
    content = {"model": network.state_dict(), "optimizer": {"state": {}}, "epoch": 3}
    torch.save(content, tmp_path / "deeplab.pth")
    found = identify(tmp_path / "deeplab.pth")
    assert (found.kind.name, found.preparation) == ("deeplabv3plus-box", "deeplab-box")
    table = export_checkpoint(tmp_path / "deeplab.pth", tmp_path / "deeplab")
    assert table.within(1e-5)
    image = scenes([11])[0]
    with fastseg.load(tmp_path / "deeplab") as model:
        masks = model.segment(image, boxes=[[100, 80, 400, 300]])
        assert masks.size == image.shape[:2]
        assert model.manifest.box_preprocessing.size == (224, 224)
    pytest.importorskip("openvino", reason="openvino is not installed")
    with fastseg.load(tmp_path / "deeplab", backend="openvino") as other:
        again = other.segment(image, boxes=[[100, 80, 400, 300]])
    assert np.mean(again.array() != masks.array()) <= 1e-4
