"""The reference package's SAM around weights of ours."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fastseg.export.networks.nano_encoder import NanoEncoder
from tests.helpers.standins import segment_anything

NANO_WEIGHTS = Path(__file__).parents[2] / "training" / "weights" / "sam_nano.safetensors"


def reference_sam(image_encoder: torch.nn.Module, weights: dict[str, torch.Tensor]) -> Any:
    """The reference's prompt encoder, decoder and postprocessing behind any image encoder."""
    modeling = segment_anything().modeling
    image_encoder.img_size = 1024  # type: ignore[assignment]
    sam = modeling.Sam(
        image_encoder=image_encoder,
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024),
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
    sam.load_state_dict(weights, strict=True)
    return sam.eval().requires_grad_(False)


@cache
def nano_reference() -> Any:
    """The embedded network in the reference package."""
    if not NANO_WEIGHTS.is_file():
        pytest.skip("the weights of sam-nano for torch are not in this tree")
    return reference_sam(NanoEncoder(), load_file(NANO_WEIGHTS))
