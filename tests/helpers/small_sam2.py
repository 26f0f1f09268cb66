"""SAM 2 with a small trunk at a quarter of its side: the reference and our modules around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.export.model_folder import Card
from fastseg.export.networks.hiera import HieraShape
from fastseg.export.networks.sam2 import build, published_name
from fastseg.export.sam import write_sam_folder
from tests.helpers.random_weights import scattered
from tests.helpers.reference_zoo import imported, sam2_model

SMALL = HieraShape(16, 1, (1, 2, 3, 2), (4,), side=256)
"""Every kind of block: windows with and without padding, pooled ones, and a global one."""

MAP_SIDES = [(SMALL.side // stride,) * 2 for stride in (4, 8, 16)]
"""Sizes of the maps, which the reference's predictor has as constants."""


def small_reference() -> Any:
    """Build the reference with a small trunk, and the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scattered(_assembled())


def _assembled() -> Any:
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
    return model


def small_sam2_modules(reference: Any) -> Any:
    """Build our modules around the weights of the reference."""
    with torch.device("meta"):
        modules = build(SMALL)
    weights = reference.state_dict()
    for prefix, module in modules.by_prefix().items():
        own = {name: weights[published_name(f"{prefix}.{name}")] for name in module.state_dict()}
        module.load_state_dict(own, assign=True)
        module.eval().requires_grad_(False)
    return modules


def write_small_folder(modules: Any, out: Path) -> None:
    """Export our modules with the preparation of SAM 2, at their side."""
    preparation = PREPARATIONS["sam2"]
    scaled = replace(preparation, preprocessing=replace(preparation.preprocessing, side=SMALL.side))
    write_sam_folder(modules, out, Card("sam2-small"), preparation=scaled)
