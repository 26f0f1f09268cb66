"""EdgeSAM embeds as its description says, which a helper writes plainly in torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.export.checkpoints.kinds import KINDS
from fastseg.export.networks.rep_vit import EDGE_SAM, RepViT, RepViTShape, build
from fastseg.export.networks.sam import SamModules
from fastseg.export.onnx.writer import write
from fastseg.export.promptable import export_checkpoint
from tests.helpers import reference_rep_vit
from tests.helpers.random_weights import scattered
from tests.helpers.reference_package import segment_anything
from tests.helpers.reference_sam import assembled_sam

KIND = next(kind for kind in KINDS if kind.name == "edge-sam")
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 91, 3), dtype=np.uint8)


@cache
def modules() -> SamModules:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = build(EDGE_SAM)
        for module in found.by_prefix().values():
            scattered(module)
    return found


def weights() -> dict[str, Any]:
    return {
        f"{prefix}.{name}": each
        for prefix, module in modules().by_prefix().items()
        for name, each in module.state_dict().items()
    }


def relative(actual, expected) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def pixels(side: int) -> Any:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_the_checkpoint_has_as_many_entries_as_published():
    assert len(weights()) == 821
    stored = {name for name in weights() if not name.endswith("num_batches_tracked")}
    assert set(KIND.shapes()) == stored


def test_the_encoder_and_its_graph_equal_the_description(tmp_path):
    """Branches that are one kernel here are two convolutions and a sum there."""
    shape, found = RepViTShape(side=256), weights()
    with torch.device("meta"):
        encoder = RepViT(shape)
    encoder.load_state_dict(modules().image_encoder.state_dict(), assign=True)
    small = SamModules(encoder.eval().requires_grad_(False), *_others())
    image = pixels(shape.side)
    with torch.inference_mode():
        wanted = reference_rep_vit.encode(found, image)
        assert relative(small.image_encoder(image), wanted) <= 1e-5
    source = next(small.sources())
    write(source, tmp_path / "encoder.onnx")
    backend = OrtBackend(tmp_path / "encoder.onnx", source.graph, threads=2)
    graph = torch.from_numpy(backend.run({"image": image.numpy()})["embedding"])
    assert relative(graph, wanted) <= 1e-5


def _others() -> tuple[Any, Any]:
    small = build(RepViTShape(side=256))
    return small.prompt_encoder, small.mask_decoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("edge")
    torch.save(weights(), place / "edge.pth")
    export_checkpoint(place / "edge.pth", place / "edge")
    return place / "edge"


class Plain(torch.nn.Module):
    """The description as the encoder of the reference package."""

    def __init__(self) -> None:
        super().__init__()
        self.img_size = EDGE_SAM.side

    def forward(self, image: Any) -> Any:
        return reference_rep_vit.encode(weights(), image)


def reference() -> Any:
    sam = assembled_sam(Plain(), side=EDGE_SAM.side)
    sam.load_state_dict({n: e for n, e in weights().items() if n[:5] != "image"}, strict=False)
    return sam.eval()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "openvino"])
def test_a_folder_segments_as_the_reference_predictor_does(folder, backend):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="the runtime under test")
    predictor = segment_anything().SamPredictor(reference())
    predictor.set_image(IMAGE)
    with fastseg.load(folder, device="cpu", backend=backend) as model:
        if backend == "auto":
            assert model.runs["decoder"].startswith("native")
        for several in (True, False):
            masks, scores, logits = predictor.predict(
                np.array([[30, 20]]), np.array([1]), multimask_output=several
            )
            found = model.segment(IMAGE, points=[[30, 20]], multimask=several)
            np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-5)
            assert np.abs(found.logits - logits).max() <= 1e-5 * np.abs(logits).max()
            assert (found.array() != masks).mean() <= 1e-3


@pytest.mark.slow
def test_everything_gives_the_masks_of_the_reference_in_its_order(folder):
    grid = {"points_per_side": 3, "pred_iou_thresh": -1.0, "stability_score_thresh": 0.0}
    grid["box_nms_thresh"] = 1.0
    records = segment_anything().SamAutomaticMaskGenerator(reference(), **grid).generate(IMAGE)
    with fastseg.load(folder, device="cpu") as model:
        found = model.everything(IMAGE, **grid)
    assert len(found) == len(records) > 9
    wanted = np.stack([one["segmentation"] for one in records])
    assert (found.array() != wanted).mean() <= 1e-3
