"""MedSAM's and LiteMedSAM's ways from image and box to mask, written plainly in torch here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference is torch")

from torch.nn import functional

import fastseg
from fastseg import ops
from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.geometry import Frame
from fastseg.sam.drawing import draw
from tests.helpers.exported_sam import ExportedSam
from tests.helpers.medsam_rules import with_medsam_rules

IMAGE = np.random.default_rng(1).integers(0, 256, (150, 210, 3), dtype=np.uint8)
BOX = np.array([30.0, 20.0, 160.0, 120.0])


def medsam_folder(sam: ExportedSam, place: Path) -> Path:
    """The exported network with MedSAM's preparation."""
    return with_medsam_rules(Path(shutil.copytree(sam.folder, place)))


def reference(sam: ExportedSam) -> tuple[torch.Tensor, torch.Tensor]:
    """Low-resolution logits (1, 1, h, w) and probabilities of the image's size."""
    transform = pytest.importorskip("skimage.transform", reason="the reference is scikit-image")
    side, network = sam.shape.side, sam.reference()
    stretched = transform.resize(
        IMAGE, (side, side), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    normal = (stretched - stretched.min()) / (stretched.max() - stretched.min())
    height, width = IMAGE.shape[:2]
    box = torch.tensor(BOX / [width, height, width, height] * side).float()[None]
    with torch.inference_mode():
        embedding = network.image_encoder(torch.tensor(normal).float().permute(2, 0, 1)[None])
        sparse, dense = network.prompt_encoder(points=None, boxes=box, masks=None)
        logits, _ = network.mask_decoder(
            image_embeddings=embedding,
            image_pe=network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        drawn = functional.interpolate(
            logits.sigmoid(), (height, width), mode="bilinear", align_corners=False
        )
    return logits, drawn


def test_medsam_prepares_decodes_and_draws_as_its_inference_does(vit_small, tmp_path):
    with fastseg.load(medsam_folder(vit_small, tmp_path / "medsam"), device="cpu") as model:
        masks = model.segment(IMAGE, boxes=BOX)
    logits, probabilities = (each.numpy()[0] for each in reference(vit_small))
    assert np.abs(masks.logits - logits).max() <= 1e-5 * np.abs(logits).max()
    differs = masks.array() != (probabilities > 0.5)
    assert differs.mean() <= 1e-4
    assert (np.abs(probabilities[differs] - 0.5) <= 1e-5).all()


def test_lite_medsam_crops_its_logits_and_resizes_them_once():
    rules = PREPARATIONS["lite-medsam"].rules
    assert rules is not None
    logits = np.random.default_rng(0).standard_normal((2, 256, 256)).astype(np.float32)
    frame = Frame((100, 180), 256)
    height, width = frame.resized
    cropped = torch.from_numpy(logits)[:, None, :height, :width]
    wanted = functional.interpolate(cropped, frame.image, mode="bilinear", align_corners=False)
    # Positions in float32 move a weight by 1e-5 or so.
    clear = wanted[:, 0].abs().numpy() > 1e-4
    found = ops.rle_to_array(draw(logits, frame, rules.output).runs)
    np.testing.assert_array_equal(found[clear], (wanted[:, 0].sigmoid().numpy() > 0.5)[clear])
