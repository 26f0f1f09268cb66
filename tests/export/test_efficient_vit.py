"""EfficientViT-SAM computes what the reference package computes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg import ops
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.export.checkpoints.kinds import KINDS
from fastseg.export.networks.efficient_vit import SHAPES, EfficientViT, build
from fastseg.export.networks.resampling import BicubicResize
from fastseg.export.networks.sam import SamModules
from fastseg.export.onnx.writer import write
from fastseg.export.promptable import export_checkpoint
from tests.helpers.random_weights import scattered
from tests.helpers.reference_zoo import efficient_vit_sam, imported

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 91, 3), dtype=np.uint8)


@cache
def reference(size: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scattered(efficient_vit_sam(size))


def filled(size: str) -> SamModules:
    kind = next(kind for kind in KINDS if kind.name == f"efficientvit-sam-{size}")
    modules = kind.fill(reference(size).state_dict())
    for module in modules.by_prefix().values():
        module.eval().requires_grad_(False)
    return modules


def relative(actual, expected) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def pixels(side: int) -> Any:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_the_encoder_equals_the_reference():
    image, ours, theirs = pixels(SHAPES["l0"].side), filled("l0"), reference("l0")
    with torch.inference_mode():
        embedding = ours.image_encoder(image)
        assert relative(embedding, theirs.image_encoder(image)) <= 1e-5
    assert embedding.shape == (1, 256, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["l1", "l2", "xl0", "xl1"])
def test_every_size_equals_the_reference_on_small_images(size):
    theirs = scattered(efficient_vit_sam(size).image_encoder)
    with torch.device("meta"):
        ours = EfficientViT(replace(SHAPES[size], side=256))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    ours.eval().requires_grad_(False)
    image = pixels(256)
    with torch.inference_mode():
        assert relative(ours(image), theirs(image)) <= 1e-5


@pytest.mark.parametrize("size", SHAPES)
def test_names_and_shapes_are_those_of_the_reference(size):
    with torch.device("meta"):
        theirs = efficient_vit_sam(size).state_dict()
    kind = next(kind for kind in KINDS if kind.name == f"efficientvit-sam-{size}")
    counted = {name: each for name, each in theirs.items() if "num_batches" not in name}
    assert kind.shapes() == {name: tuple(each.shape) for name, each in counted.items()}


def test_the_decoder_and_its_native_kernel_have_the_norms_of_the_reference():
    """The published networks add 1e-6 to variances, where SAM adds 1e-5."""
    modules, theirs = filled("l0"), reference("l0")
    embedding = 0.01 * torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))
    points, labels = torch.tensor([[[900.0, 300.0], [0.0, 0.0]]]), torch.tensor([[1, -1]])
    with torch.inference_mode():
        sparse, dense = theirs.prompt_encoder((points[:, :1], labels[:, :1]), None, None)
        logits, ious = theirs.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=theirs.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        positions = modules.prompt_encoder.dense_positions()
        ours = modules.mask_decoder(embedding, positions, *modules.prompt_encoder(points, labels))
    assert relative(ours[0], logits) <= 1e-5
    assert relative(ours[1], ious) <= 1e-5
    table = next(name for name in ops.kernel_tables() if not ops.computes_in_bf16(name))
    weights = modules.decoder_weights()
    assert weights is not None
    of_sam = {name: each for name, each in weights.items() if not name.endswith("epsilon")}
    for stored, agrees in ((weights, True), (of_sam, False)):
        kernel = ops.DecoderKernel(stored, grid=64, side=modules.side, kernel_table=table)
        state = kernel.image_state(embedding.numpy())
        decoded = kernel.decode(points.numpy(), labels.int().numpy(), state)
        drawn = kernel.draw(decoded.prompt_state, decoded.mask_vectors, state)
        assert (relative(torch.from_numpy(drawn), logits) <= 1e-5) == agrees
        assert (relative(torch.from_numpy(decoded.iou_predictions), ious) <= 1e-5) == agrees


@pytest.mark.parametrize(("before", "after"), [(4, 64), (32, 64), (64, 64)])
def test_bicubic_enlargement_by_products_is_that_of_torch(before, after):
    x = pixels(before)
    wanted = torch.nn.functional.interpolate(x, (after, after), mode="bicubic")
    assert relative(BicubicResize(before, after)(x), wanted) <= 1e-6


@pytest.mark.parametrize("size", ["l0", "xl0"])
def test_the_graph_of_an_encoder_equals_its_module(size, tmp_path):
    """Every kind of block of L and XL, one of each stage, on a small image."""
    published = SHAPES[size]
    shape = replace(published, side=128, depths=(1,) * len(published.depths), neck_depth=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = replace(build(shape), image_encoder=scattered(EfficientViT(shape)))
    source = next(modules.sources())
    write(source, tmp_path / "encoder.onnx")
    image = pixels(shape.side)
    backend = OrtBackend(tmp_path / "encoder.onnx", source.graph, threads=2)
    found = torch.from_numpy(backend.run({"image": image.numpy()})["embedding"])
    with torch.inference_mode():
        assert relative(found, modules.image_encoder(image)) <= 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("efficientvit")
    torch.save(reference("l0").state_dict(), place / "l0.pt")
    export_checkpoint(place / "l0.pt", place / "l0")
    return place / "l0"


PROMPTS = (
    ({"points": [[30, 20]]}, {"point_coords": [[30, 20]], "point_labels": [1]}),
    ({"boxes": [10, 10, 60, 50]}, {"box": [10, 10, 60, 50]}),
    (
        {"points": [[30, 20], [5, 6]], "labels": [1, 0], "boxes": [10, 10, 60, 50]},
        {"point_coords": [[30, 20], [5, 6]], "point_labels": [1, 0], "box": [10, 10, 60, 50]},
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "openvino"])
def test_a_folder_segments_as_the_reference_predictor_does(folder, backend):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="the runtime under test")
    module = imported("efficientsam.models.efficientvit.sam")
    predictor = module.EfficientViTSamPredictor(reference("l0"))
    predictor.set_image(IMAGE)
    with fastseg.load(folder, device="cpu", backend=backend) as model:
        if backend == "auto":
            assert model.runs["decoder"].startswith("native")
        for given, named in PROMPTS:
            for several in (True, False):
                arrays = {name: np.array(value) for name, value in named.items()}
                masks, scores, logits = predictor.predict(**arrays, multimask_output=several)
                found = model.segment(IMAGE, multimask=several, **given)
                np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-5)
                assert np.abs(found.logits - logits).max() <= 1e-5 * np.abs(logits).max()
                assert (found.array() != masks).mean() <= 1e-3


@pytest.mark.slow
def test_everything_gives_the_masks_of_the_reference_in_its_order(folder):
    grid = {"points_per_side": 4, "pred_iou_thresh": -1.0, "stability_score_thresh": 0.0}
    grid["box_nms_thresh"] = 1.0
    module = imported("efficientsam.models.efficientvit.sam")
    generator = module.EfficientViTSamAutomaticMaskGenerator(reference("l0"), **grid)
    records = generator.generate(IMAGE)
    with fastseg.load(folder, device="cpu") as model:
        found = model.everything(IMAGE, **grid)
    assert len(found) == len(records) > 9
    np.testing.assert_array_equal(found.points, [one["point_coords"][0] for one in records])
    wanted = np.stack([one["segmentation"] for one in records])
    assert (found.array() != wanted).mean() <= 1e-3
