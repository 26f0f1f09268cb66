"""The reference package's SAM around weights of ours."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fastseg.export.networks.image_encoder import Shape
from fastseg.export.networks.nano_encoder import NanoEncoder
from tests.helpers.reference_package import segment_anything

NANO_WEIGHTS = Path(__file__).parents[2] / "training" / "weights" / "sam_nano.safetensors"


def reference_encoder(shape: Shape) -> torch.nn.Module:
    """Build the reference's image encoder at any size, with its initial weights."""
    encoder: torch.nn.Module = segment_anything().modeling.ImageEncoderViT(
        img_size=shape.side,
        patch_size=16,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        out_chans=256,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=shape.global_blocks,
    )
    return encoder


def assembled_sam(image_encoder: torch.nn.Module, *, side: int = 1024) -> Any:
    """Build the reference's prompt encoder, decoder and postprocessing behind any image encoder."""
    modeling, grid = segment_anything().modeling, side // 16
    image_encoder.img_size = side  # type: ignore[assignment]
    return modeling.Sam(
        image_encoder=image_encoder,
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=256, iou_head_depth=3, iou_head_hidden_dim=256,
        ),
    )  # fmt: skip


def reference_sam(image_encoder: torch.nn.Module, weights: dict[str, torch.Tensor]) -> Any:
    """Fill ``assembled_sam`` with weights and freeze it."""
    sam = assembled_sam(image_encoder)
    sam.load_state_dict(weights, strict=True)
    return sam.eval().requires_grad_(False)


@cache
def nano_reference() -> Any:
    """Build the embedded network in the reference package."""
    if not NANO_WEIGHTS.is_file():
        pytest.skip("the weights of sam-nano for torch are not in this tree")
    return reference_sam(NanoEncoder(), load_file(NANO_WEIGHTS))
