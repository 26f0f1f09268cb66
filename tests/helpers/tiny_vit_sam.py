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

NO_PROMPT = Rules(PromptRules(points=False, boxes=False, masks=False, alternatives=False))


def shape(side: int = 128) -> Shape:
    """Return the size of the encoder; the native kernel runs those of 256 pixels and more."""
    return Shape(width=32, depth=2, heads=2, global_blocks=(1,), side=side)


def build(side: int = 128) -> SamModules:
    """Build the modules."""
    size = shape(side)
    return SamModules(ImageEncoder(size), PromptEncoder(size.grid, side), MaskDecoder())


def preparations(side: int = 128) -> dict[str, Preparation]:
    """Return how images are prepared, by the words of ``PREPARATIONS``."""
    adapter = Preprocessing(side, MEAN, STD, STRETCH_PILLOW)
    return {
        "tiny": Preparation("tiny", Preprocessing(side, MEAN, STD)),
        "tiny-adapter": Preparation("tiny, no prompt", adapter, NO_PROMPT),
    }


def make_known(patch: pytest.MonkeyPatch, side: int = 128) -> None:
    """Let its checkpoints be recognised, and no others."""
    kinds = (
        Kind("vit_tiny", "SAM ViT-tiny", partial(build, side), ("tiny",), certain=True),
        Kind(
            "sam-adapter-vit-tiny",
            "SAM-Adapter ViT-tiny",
            partial(sam_adapter.build, shape(side)),
            ("tiny-adapter",),
            certain=True,
            published_name=sam_adapter.published_name,
        ),
    )
    for module in ("fastseg.export.checkpoints.identify", "training.finetune.start"):
        patch.setattr(f"{module}.KINDS", kinds)
        patch.setattr(f"{module}.PREPARATIONS", preparations(side))


def save_checkpoint(path: Path, side: int = 128) -> Path:
    """Write random weights, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = build(side)
    state = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.by_prefix().items()
        for name, tensor in module.state_dict().items()
    }
    torch.save(state, path)
    return path
