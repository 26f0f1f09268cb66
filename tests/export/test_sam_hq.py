"""SAM-HQ computes what its description says, written plainly here over the reference's SAM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from torch import nn

import fastseg
from fastseg.export.checkpoints.kinds import KINDS, Kind
from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.export.model_folder import Card
from fastseg.export.networks import sam_hq
from fastseg.export.networks.image_encoder import Shape
from fastseg.export.networks.tiny_vit import MOBILE_SAM
from fastseg.export.sam import write_sam_folder
from tests.helpers.exported_sam import SMALL
from tests.helpers.random_weights import scattered
from tests.helpers.reference_package import segment_anything
from tests.helpers.reference_sam import assembled_sam, reference_encoder
from tests.helpers.reference_zoo import mobile_sam

LIGHT = replace(MOBILE_SAM, side=256)


def per_pixel_norm(channels: int) -> nn.Module:
    return segment_anything().modeling.image_encoder.LayerNorm2d(channels)


def head() -> nn.Module:
    return segment_anything().modeling.mask_decoder.MLP(256, 256, 32, 3)


def fourfold(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, hidden, 2, 2),
        per_pixel_norm(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, 32, 2, 2),
    )


class PlainDecoder(nn.Module):
    """The decoder under the names of the checkpoint; it returns one mask a prompt."""

    def __init__(self, sam: nn.Module, early: int) -> None:
        super().__init__()
        for name, part in sam.mask_decoder.named_children():
            setattr(self, name, part)
        self.hf_token = nn.Embedding(1, 256)
        self.hf_mlp = head()
        self.compress_vit_feat = fourfold(early, 256)
        self.embedding_encoder = fourfold(256, 64)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(32, 64, 3, 1, 1), per_pixel_norm(64), nn.GELU(), nn.Conv2d(64, 32, 3, 1, 1)
        )
        self.early_map: Any = None

    def every_slot(self, embedding: Any, positions: Any, sparse: Any, dense: Any) -> Any:
        """Return SAM's four masks, that of the further token, and the four scores."""
        count = len(sparse)
        features = self.embedding_encoder(embedding) + self.compress_vit_feat(self.early_map)
        outputs = [self.iou_token.weight, self.mask_tokens.weight, self.hf_token.weight]
        tokens = torch.cat([torch.cat(outputs).expand(count, -1, -1), sparse], dim=1)
        image = embedding.repeat(count, 1, 1, 1) + dense
        out, image_out = self.transformer(image, positions.repeat(count, 1, 1, 1), tokens)
        canvas = self.output_upscaling(image_out.transpose(1, 2).reshape(image.shape))
        heads = self.output_hypernetworks_mlps
        vectors = torch.stack([one(out[:, 1 + slot]) for slot, one in enumerate(heads)], dim=1)
        masks = torch.einsum("nmc,nchw->nmhw", vectors, canvas)
        further = self.embedding_maskfeature(canvas) + features
        extra = torch.einsum("nc,nchw->nhw", self.hf_mlp(out[:, 5]), further)[:, None]
        return masks, extra, self.iou_prediction_head(out[:, 0])

    def forward(
        self,
        image_embeddings: Any,
        image_pe: Any,
        sparse_prompt_embeddings: Any,
        dense_prompt_embeddings: Any,
        multimask_output: bool,
    ) -> tuple[Any, Any]:
        """Return the best-scored of slots 1 to 3, or slot 0, with the further mask added."""
        masks, extra, scores = self.every_slot(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
        )
        rows = torch.arange(len(masks))
        slot = 1 + scores[:, 1:].argmax(1) if multimask_output else torch.zeros_like(rows)
        return masks[rows, slot][:, None] + extra, scores[rows, slot][:, None]


def plain_sam(encoder: nn.Module, early: int, hook: nn.Module, side: int) -> Any:
    """The reference's SAM with the plain decoder, which gets the output of ``hook``."""
    sam = assembled_sam(encoder, side=side)
    sam.mask_decoder = PlainDecoder(sam, early)
    scattered(sam)

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        sam.mask_decoder.early_map = output.permute(0, 3, 1, 2) if output.ndim == 4 else output

    hook.register_forward_hook(keep)
    return sam


def filled(kind_name: str, build: Any, sam: Any) -> Any:
    kind: Kind = next(kind for kind in KINDS if kind.name == kind_name)
    modules = replace(kind, build=build).fill(sam.state_dict())
    for module in modules.by_prefix().values():
        module.eval().requires_grad_(False)
    return modules


@pytest.fixture(scope="module")
def theirs() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = reference_encoder(SMALL)
        return plain_sam(encoder, SMALL.width, encoder.blocks[SMALL.global_blocks[0]], SMALL.side)


@pytest.fixture(scope="module")
def ours(theirs) -> Any:
    return filled("sam-hq-vit-b", lambda: sam_hq.build(SMALL), theirs)


def relative(actual: Any, expected: Any) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def compare(theirs: Any, ours: Any, side: int, embedded: Any) -> None:
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    points, labels = torch.tensor([[[90.0, 40.0]], [[9.0, 200.0]]]), torch.ones(2, 1)
    with torch.inference_mode():
        expected = embedded(image)
        sparse, dense = theirs.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        positions = theirs.prompt_encoder.get_dense_pe()
        masks, extra, ious = theirs.mask_decoder.every_slot(expected, positions, sparse, dense)
        embedding, features = ours.image_encoder(image)
        found, scores = ours.mask_decoder(embedding, positions, sparse, dense[:1], features)
    assert relative(embedding, expected) <= 1e-5
    assert relative(found, masks + extra) <= 1e-5
    assert relative(scores, ious) <= 1e-5
    # The further mask counts, and so does the early map.
    assert relative(masks, masks + extra) > 1e-2


def test_embedding_masks_and_scores_equal_the_plain_network(theirs, ours):
    compare(theirs, ours, SMALL.side, theirs.image_encoder)
    assert "compress_vit_feat.0.weight" in ours.encoder_weights()
    assert "mask_decoder.hf_token.weight" in ours.decoder_weights()


@pytest.mark.slow
def test_the_light_network_equals_the_plain_one():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny = mobile_sam().modeling.TinyViT(
            img_size=LIGHT.side,
            num_classes=1000,
            embed_dims=list(LIGHT.widths),
            depths=list(LIGHT.depths),
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, *LIGHT.windows],
            drop_path_rate=0.0,
        )

    def embedded(image: Any) -> Any:
        x = tiny.patch_embed(image)
        for number, layer in enumerate(tiny.layers):
            x = layer(x)
            if number == 1:
                theirs.mask_decoder.early_map = planes(x)
        return tiny.neck(planes(x))

    def planes(x: Any) -> Any:
        grid = round(x.shape[1] ** 0.5)
        return x.reshape(len(x), grid, grid, -1).permute(0, 3, 1, 2)

    theirs = plain_sam(tiny.train(), LIGHT.widths[2], nn.Identity(), LIGHT.side)
    tiny.eval()
    weights = filled("light-hq-sam", lambda: sam_hq.build_light(LIGHT), theirs)
    compare(theirs, weights, LIGHT.side, embedded)


def test_the_early_map_is_that_of_the_first_global_block():
    shape = Shape(width=32, depth=3, heads=2, global_blocks=(1, 2), side=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = scattered(sam_hq.EarlyViT(shape))
    seen = []
    encoder.blocks[1].register_forward_hook(lambda _, __, output: seen.append(output))
    _, early = encoder(torch.ones(1, 3, 64, 64))
    assert torch.equal(early, seen[0].permute(0, 3, 1, 2))


IMAGE = np.random.default_rng(1).integers(0, 256, (150, 210, 3), dtype=np.uint8)


@pytest.mark.slow
def test_an_exported_folder_segments_as_the_plain_network_does(theirs, ours, tmp_path):
    """One mask a prompt, by points, boxes and masks; and everything mode; on each runtime."""
    preparation = PREPARATIONS["sam-hq"]
    scaled = replace(preparation, preprocessing=replace(preparation.preprocessing, side=256))
    write_sam_folder(ours, tmp_path / "hq", Card("hq-small"), preparation=scaled)
    package = segment_anything()
    predictor = package.SamPredictor(theirs)
    predictor.set_image(IMAGE)
    points = {"point_coords": np.array([[100, 70], [20, 20]]), "point_labels": np.array([1, 0])}
    first = predictor.predict(**points)
    prompts = (
        ({"points": points["point_coords"], "labels": points["point_labels"]}, points),
        ({"boxes": [30, 20, 160, 120]}, {"box": np.array([30, 20, 160, 120])}),
        (
            {"boxes": [30, 20, 160, 120], "mask_logits": first[2]},
            {"box": np.array([30, 20, 160, 120]), "mask_input": first[2]},
        ),
    )
    grid = {"points_per_side": 4, "pred_iou_thresh": -10.0, "stability_score_thresh": 0.0}
    records = package.SamAutomaticMaskGenerator(theirs, **grid).generate(IMAGE)
    wanted = np.stack([one["segmentation"] for one in records])
    for backend, some in (("auto", prompts), ("onnxruntime", prompts), ("openvino", prompts[:1])):
        if backend != "auto":
            pytest.importorskip(backend, reason="the runtime is not installed")
        with fastseg.load(tmp_path / "hq", backend=backend) as model:
            assert model.runs["decoder"].startswith("native") == (backend == "auto")
            for mine, reference in some:
                for several in (True, False):
                    found = model.segment(IMAGE, **mine, multimask=several)
                    masks, scores, logits = predictor.predict(**reference, multimask_output=several)
                    assert found.logits.shape == logits.shape == (1, 64, 64)
                    error = np.abs(found.logits - logits).max() / np.abs(logits).max()
                    assert error <= 1e-5
                    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)
                    assert (found.array() != masks).mean() <= 1e-5
            everything = model.everything(
                IMAGE, points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0
            )
            assert len(everything) == len(records) > 0
            assert (everything.array() != wanted).mean() <= 1e-5
