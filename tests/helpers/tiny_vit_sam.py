"""A SAM of few weights with a vision transformer, known to checkpoints like published ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from fastseg.artifacts.preprocessing import STRETCH_PILLOW, Preprocessing
from fastseg.artifacts.rules import PromptRules, Rules
from fastseg.export.checkpoints.kinds import Kind
from fastseg.export.checkpoints.preparations import MEAN, STD, Preparation
from fastseg.export.networks import sam_adapter
from fastseg.export.networks.image_encoder import ImageEncoder, Shape
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules

SHAPE = Shape(width=32, depth=2, heads=2, global_blocks=(1,), side=128)


def _build() -> SamModules:
    return SamModules(ImageEncoder(SHAPE), PromptEncoder(SHAPE.grid, SHAPE.side), MaskDecoder())


NO_PROMPT = Rules(PromptRules(points=False, boxes=False, masks=False, alternatives=False))

KINDS = (
    Kind("vit_tiny", "SAM ViT-tiny", _build, ("tiny",), certain=True),
    Kind(
        "sam-adapter-vit-tiny",
        "SAM-Adapter ViT-tiny",
        partial(sam_adapter.build, SHAPE),
        ("tiny-adapter",),
        certain=True,
        published_name=sam_adapter.published_name,
    ),
)

PREPARATIONS = {
    "tiny": Preparation("tiny", Preprocessing(SHAPE.side, MEAN, STD)),
    "tiny-adapter": Preparation(
        "tiny, no prompt", Preprocessing(SHAPE.side, MEAN, STD, STRETCH_PILLOW), NO_PROMPT
    ),
}


def make_known(patch: pytest.MonkeyPatch) -> None:
    """Let its checkpoints be recognised, and no others."""
    for module in ("fastseg.export.checkpoints.identify", "training.finetune.start"):
        patch.setattr(f"{module}.KINDS", KINDS)
        patch.setattr(f"{module}.PREPARATIONS", PREPARATIONS)


def save_checkpoint(path: Path) -> Path:
    """Write random weights, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = _build()
    state = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.by_prefix().items()
        for name, tensor in module.state_dict().items()
    }
    torch.save(state, path)
    return path
