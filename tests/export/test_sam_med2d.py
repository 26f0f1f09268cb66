"""SAM-Med2D computes what its description says, written plainly here over the reference's SAM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from torch import nn
from torch.nn import functional

import fastseg
from fastseg.export.checkpoints.kinds import KINDS
from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.export.model_folder import Card
from fastseg.export.networks import sam_med2d
from fastseg.export.sam import write_sam_folder
from fastseg.sam.preprocessing import encoder_input
from fastseg.sam.resizing import stretch_nearest
from tests.helpers.exported_sam import SMALL
from tests.helpers.random_weights import scattered
from tests.helpers.reference_package import segment_anything

IMAGE = np.random.default_rng(1).integers(0, 256, (150, 210, 3), dtype=np.uint8)


class PlainAdapter(nn.Module):
    """The adapter under the names of the checkpoint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        gate = (nn.Linear(width, width // 4, bias=False), nn.ReLU())
        self.channel = nn.Sequential(*gate, nn.Linear(width // 4, width, bias=False), nn.Sigmoid())
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, 2, 1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False),
            nn.ReLU(),
        )

    def forward(self, normal: Any) -> Any:
        planes = normal.permute(0, 3, 1, 2)
        gate = self.channel(planes.mean(dim=(2, 3)))[:, :, None, None]
        return self.norm((planes + self.spatial(gate * planes)).permute(0, 2, 3, 1))


def plain_block(block: Any, x: Any) -> Any:
    """Run a block of the reference, with its adapter beside the feed-forward network."""
    vit = segment_anything().modeling.image_encoder
    normal = block.norm1(x)
    if block.window_size > 0:
        windows, padded = vit.window_partition(normal, block.window_size)
        mixed = block.attn(windows)
        x = x + vit.window_unpartition(mixed, block.window_size, padded, x.shape[1:3])
    else:
        x = x + block.attn(normal)
    normal = block.norm2(x)
    return x + block.mlp(normal) + block.Adapter(normal)


def embedded(encoder: Any, image: Any) -> Any:
    x = encoder.patch_embed(image) + encoder.pos_embed
    for block in encoder.blocks:
        x = plain_block(block, x)
    return encoder.neck(x.permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def theirs(vit_small) -> Any:
    """The network of ``vit_small`` with an adapter of random weights in each block."""
    sam = vit_small.reference()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in sam.image_encoder.blocks:
            block.Adapter = scattered(PlainAdapter(SMALL.width))
    return sam


@pytest.fixture(scope="module")
def ours(theirs) -> Any:
    kind = next(kind for kind in KINDS if kind.name == "sam-med2d")
    small = replace(kind, build=lambda: sam_med2d.build(SMALL))
    modules = small.fill(theirs.state_dict())
    for module in modules.by_prefix().values():
        module.eval().requires_grad_(False)
    return modules


def relative(actual: Any, expected: Any) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def test_the_embedding_equals_the_plain_network(theirs, ours):
    image = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = embedded(theirs.image_encoder, image)
        without = theirs.image_encoder(image)
        assert relative(ours.image_encoder(image), expected) <= 1e-5
    assert relative(without, expected) > 1e-2  # the adapters count


def test_the_native_kernels_take_its_decoder_and_not_its_encoder(ours):
    assert ours.encoder_weights() is None
    weights = ours.decoder_weights()
    assert weights is not None
    assert "mask_decoder.iou_token.weight" in weights


@pytest.mark.parametrize("size", [(256, 256), (100, 333), (512, 511), (1, 7)])
def test_images_are_stretched_by_the_nearest_pixels_and_normalised(size):
    cv2 = pytest.importorskip("cv2", reason="the reference is OpenCV")
    pixels = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    wanted = cv2.resize(pixels, (256, 256), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(stretch_nearest(pixels, 256), wanted)
    preprocessing = PREPARATIONS["sam-med2d"].preprocessing
    found = encoder_input(pixels, preprocessing.frame(size), preprocessing)
    # Normalised first and resized then, which is the same.
    normal = (pixels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    stretched = cv2.resize(normal, (256, 256), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_allclose(found[0], np.moveaxis(stretched, 2, 0), atol=1e-6)


def predicted(sam: Any, several: bool, **prompts: Any) -> tuple[Any, Any, Any]:
    """Return low-resolution logits, scores and probabilities as the published predictor does."""
    height, width = IMAGE.shape[:2]
    scale = torch.tensor([256 / width, 256 / height], dtype=torch.float64)
    normal = (stretch_nearest(IMAGE, 256) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    pixels = torch.tensor(normal).float().permute(2, 0, 1)[None]
    points, boxes = prompts.get("points"), prompts.get("boxes")
    if points is not None:
        points = (torch.tensor([points]) * scale).float(), torch.ones(1, len(points))
    if boxes is not None:
        boxes = (torch.tensor(boxes).reshape(1, 2, 2) * scale).reshape(1, 4).float()
    masks = prompts.get("mask_logits")
    sparse, dense = sam.prompt_encoder(
        points=points, boxes=boxes, masks=None if masks is None else torch.tensor(masks)[None]
    )
    logits, ious = sam.mask_decoder(
        image_embeddings=embedded(sam.image_encoder, pixels),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
    )
    best = int(ious.argmax())
    logits = logits[:, best : best + 1]
    square = functional.interpolate(logits, (256, 256), mode="bilinear", align_corners=False)
    drawn = functional.interpolate(square, (height, width), mode="bilinear", align_corners=False)
    return logits[0].numpy(), ious[0, best].numpy(), drawn[0].sigmoid().numpy()


@pytest.mark.slow
def test_an_exported_folder_segments_as_the_published_predictor_does(theirs, ours, tmp_path):
    """One mask a prompt, by points, boxes and masks, on the native decoder and two runtimes."""
    write_sam_folder(ours, tmp_path / "med2d", Card("med2d"), preparation=PREPARATIONS["sam-med2d"])
    mask = np.random.default_rng(0).standard_normal((1, 64, 64)).astype(np.float32)
    prompts: tuple[dict[str, Any], ...] = (
        {"points": [[100.0, 70.0], [20.0, 20.0]]},
        {"boxes": [30.0, 20.0, 160.0, 120.0]},
        {"boxes": [30.0, 20.0, 160.0, 120.0], "mask_logits": mask},
    )
    with torch.inference_mode():
        wanted = [predicted(theirs, several, **one) for one in prompts for several in (True, False)]
    for backend in ("auto", "onnxruntime", "openvino"):
        if backend != "auto":
            pytest.importorskip(backend, reason="the runtime is not installed")
        with fastseg.load(tmp_path / "med2d", device="cpu", backend=backend) as model:
            found = [
                model.segment(IMAGE, **one, multimask=several)
                for one in prompts
                for several in (True, False)
            ]
            assert len(model.everything(IMAGE, points_per_side=2, stability_score_thresh=0)) <= 4
        for masks, (logits, score, probabilities) in zip(found, wanted, strict=True):
            assert masks.logits.shape == (1, 64, 64)
            assert np.abs(masks.logits - logits).max() <= 1e-5 * np.abs(logits).max()
            np.testing.assert_allclose(masks.scores, [score], rtol=1e-5, atol=1e-6)
            assert (masks.array() != (probabilities > 0.5)).mean() <= 1e-5
