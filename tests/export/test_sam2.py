"""SAM 2 computes what the reference package computes, at a small size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg.export.networks.sam2 import FINE, MIDDLE
from fastseg.export.networks.subpixels import by_plane, by_subpixel
from tests.helpers.reference_zoo import imported
from tests.helpers.small_sam2 import SMALL, small_reference, small_sam2_modules


@pytest.fixture(scope="module")
def theirs() -> Any:
    return small_reference()


@pytest.fixture(scope="module")
def ours(theirs) -> Any:
    return small_sam2_modules(theirs)


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
    # These logits are about 0.005, where 1e-5 of them is less than the rounding of their terms.
    assert float((present - objects).abs().max()) <= 1e-6


@pytest.mark.parametrize("levels", [1, 2])
def test_the_order_of_subpixels_is_undone(levels):
    channels = {1: MIDDLE, 2: FINE}[levels]
    planes = torch.randn(2, channels, 4 * 2**levels, 4 * 2**levels)
    assert torch.equal(by_plane(by_subpixel(planes, levels), channels), planes)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_an_exported_folder_segments_as_the_reference_predictor_does(
    theirs, sam2_small_folder, backend
):
    """Points, a box, and both together; alternatives and the single mask; everything mode."""
    predictor = imported("sam2.sam2_image_predictor").SAM2ImagePredictor(theirs)
    predictor._bb_feat_sizes = [(SMALL.side // stride,) * 2 for stride in (4, 8, 16)]
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    prompts = (
        ({"points": [[30, 20]]}, {"point_coords": [[30, 20]], "point_labels": [1]}),
        ({"boxes": [10, 10, 60, 50]}, {"box": [10, 10, 60, 50]}),
        (
            {"points": [[30, 20], [5, 6]], "labels": [1, 0], "boxes": [10, 10, 60, 50]},
            {
                "point_coords": [[30, 20], [5, 6]],
                "point_labels": [1, 0],
                "box": [10, 10, 60, 50],
            },
        ),
    )
    grid = {"points_per_side": 4, "pred_iou_thresh": 0.1, "stability_score_thresh": 0.0}
    grid["box_nms_thresh"] = 1.0
    loaded = fastseg.load(sam2_small_folder, device="cpu", backend=backend)
    with loaded as model, torch.inference_mode():
        assert model.runs["decoder"].startswith("native") == (backend == "auto")
        predictor.set_image(image)
        for given, named in prompts:
            for several in (True, False):
                arrays = {name: np.array(value) for name, value in named.items()}
                masks, scores, logits = predictor.predict(**arrays, multimask_output=several)
                found = model.segment(image, multimask=several, **given)
                np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-5)
                np.testing.assert_allclose(found.logits, logits, rtol=0, atol=32e-5)
                assert (found.array() != masks.astype(bool)).mean() <= 1e-3
        generator = imported("sam2.automatic_mask_generator").SAM2AutomaticMaskGenerator(
            theirs, **grid
        )
        generator.predictor._bb_feat_sizes = predictor._bb_feat_sizes
        records = generator.generate(image)
        found = model.everything(image, **grid)
    assert len(found) == len(records) > 0
    np.testing.assert_array_equal(found.points, [one["point_coords"][0] for one in records])
    wanted = np.stack([one["segmentation"] for one in records])
    assert (found.array() != wanted).mean() <= 1e-3
