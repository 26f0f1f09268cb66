"""SAM 2 computes what the reference package computes, at a small size."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg.export.networks.hiera import HieraShape
from fastseg.export.networks.sam2 import FINE, MIDDLE, build, by_plane, by_subpixel, published_name
from tests.helpers.random_weights import scattered
from tests.helpers.reference_zoo import imported, sam2_model

SMALL = HieraShape(16, 1, (1, 2, 3, 2), (4,), side=256)
"""Every kind of block: windows with and without padding, pooled ones, and a global one."""


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The reference with a small trunk, at a quarter of its side."""
    backbones = imported("sam2.modeling.backbones.hieradet")
    model = sam2_model("t")
    model.image_size, model.sam_image_embedding_size = SMALL.side, SMALL.side // 16
    model.image_encoder.trunk = backbones.Hiera(
        embed_dim=SMALL.width,
        num_heads=SMALL.heads,
        stages=list(SMALL.depths),
        global_att_blocks=list(SMALL.global_blocks),
        window_pos_embed_bkg_spatial_size=(7, 7),
    )
    neck = model.image_encoder.neck
    for conv, width in zip(neck.convs, reversed(SMALL.widths), strict=True):
        conv.conv = torch.nn.Conv2d(width, 256, 1)
    grid = SMALL.side // 16
    model.sam_prompt_encoder.image_embedding_size = (grid, grid)
    model.sam_prompt_encoder.input_image_size = (SMALL.side, SMALL.side)
    return scattered(model)


@pytest.fixture(scope="module")
def ours(theirs) -> Any:
    with torch.device("meta"):
        modules = build(SMALL)
    weights = theirs.state_dict()
    for prefix, module in modules.by_prefix().items():
        own = {name: weights[published_name(f"{prefix}.{name}")] for name in module.state_dict()}
        module.load_state_dict(own, assign=True)
        module.eval().requires_grad_(False)
    return modules


def relative(actual, expected) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def encoded(theirs, ours) -> Any:
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return theirs.forward_image(image)["backbone_fpn"], ours.image_encoder(image)


def test_the_encoder_and_both_finer_maps_equal_the_reference(theirs, encoded):
    (fine, middle, coarse), (embedding, s1, s0) = encoded
    expected = coarse + theirs.no_mem_embed.reshape(1, 256, 1, 1)
    assert relative(embedding, expected) <= 1e-5
    assert relative(by_plane(s1, MIDDLE), middle) <= 1e-5
    assert relative(by_plane(s0, FINE), fine) <= 1e-5


def test_masks_scores_and_object_scores_equal_the_reference(theirs, ours, encoded):
    (fine, middle, coarse), _ = encoded
    points, labels = torch.tensor([[[90.0, 40.0], [9.0, 200.0]]] * 2), torch.tensor([[1, 0]] * 2)
    encoder = theirs.sam_prompt_encoder
    with torch.inference_mode():
        sparse, dense = encoder(points=(points, labels), boxes=None, masks=None)
        masks, ious, _, objects = theirs.sam_mask_decoder.predict_masks(
            image_embeddings=coarse,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=True,
            high_res_features=[fine, middle],
        )
        padded = torch.cat([points, torch.zeros(2, 1, 2)], 1), torch.tensor([[1, 0, -1]] * 2)
        mine = ours.prompt_encoder(*padded)
        positions = ours.prompt_encoder.dense_positions()
        maps = by_subpixel(middle, 1), by_subpixel(fine, 2)
        found, scores = ours.mask_decoder(coarse, positions, *mine, *maps)
        tokens, _ = ours.mask_decoder.transformer(
            (coarse + mine[1]).expand(2, -1, -1, -1).flatten(2).transpose(1, 2),
            positions.flatten(2).transpose(1, 2),
            torch.cat([ours.mask_decoder.output_tokens().expand(2, -1, -1), mine[0]], 1),
        )
        (present,) = ours.mask_decoder.further_outputs(tokens)
    assert relative(mine[0], sparse) <= 1e-6
    assert relative(found, masks) <= 1e-5
    assert relative(scores, ious) <= 1e-5
    assert relative(present, objects) <= 1e-5


@pytest.mark.parametrize("levels", [1, 2])
def test_the_order_of_subpixels_is_undone(levels):
    channels = {1: MIDDLE, 2: FINE}[levels]
    planes = torch.randn(2, channels, 4 * 2**levels, 4 * 2**levels)
    assert torch.equal(by_plane(by_subpixel(planes, levels), channels), planes)
