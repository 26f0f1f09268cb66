"""Model folders of networks with random weights, kept between runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fastseg import artifacts
from fastseg.artifacts.manifest import Manifest
from fastseg.contract import guided_network
from fastseg.export.checkpoints.kinds import KINDS, Kind
from fastseg.export.checkpoints.nnunet import WORD
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.plain_unet import PlainUNet, PlainUNetShape
from fastseg.export.networks.sam import SamModules
from fastseg.export.promptable import export_checkpoint
from tests.helpers.random_weights import scattered

TILE = (512, 512)
"""Height and width of the tiles of the plan that stands for those of nnU-Net."""

STAGES = PlainUNetShape(
    channels=4,
    widths=(32, 64, 128, 256, 512, 512, 512, 512),
    kernels=((3, 3),) * 8,
    strides=((1, 1), *((2, 2),) * 7),
    encoder=(2,) * 8,
    decoder=(2,) * 7,
)
"""The network that nnU-Net plans for tiles of this size: R, G, B and the box."""


def _nnunet() -> GuidedModules:
    return GuidedModules(PlainUNet(STAGES), guided_network(1, channels=3, size=TILE))


_VIT_B = next(kind for kind in KINDS if kind.name == "vit_b")

NETWORKS = (
    *KINDS,
    replace(_VIT_B, name="medsam", title="MedSAM", preparations=("medsam",)),
    Kind("nnunet-2d-box", "nnU-Net 2D plan with a box channel", _nnunet, (WORD,)),
)
"""Every network that is exported, each with its preparation."""

BY_NAME = {kind.name: kind for kind in NETWORKS}


def folder_of(kind: Kind, place: Path, progress: Callable[[str], None]) -> Path:
    """Return the model folder of a network in ``place``; export it if it is not there.

    Weights are random ones, drawn by a fixed seed.
    """
    folder = place / kind.name
    if artifacts.is_model_folder(folder):
        return folder
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as temporary:
        checkpoint = Path(temporary) / f"{kind.name}.pt"
        torch.save(content(kind), checkpoint)
        export_checkpoint(
            checkpoint, folder, preprocess=kind.preparations[0], licence="none", progress=progress
        )
    return folder


def content(kind: Kind) -> Mapping[str, Any]:
    """Return what a file of a network holds: random weights, and a plan where it needs one."""
    weights = random_weights(kind)
    if kind.preparations != (WORD,):
        return weights
    schemes = ["ZScoreNormalization"] * STAGES.channels
    plan = {"patch_size": list(TILE), "normalization_schemes": schemes}
    arguments = {"plans": {"configurations": {"2d": plan}}, "configuration": "2d"}
    return {"network_weights": weights, "init_args": arguments}


def random_weights(kind: Kind) -> dict[str, torch.Tensor]:
    """Draw weights of a network, by their names in its checkpoints.

    None is the zero or the one that it begins with, so that every term counts in a comparison.
    """
    torch.manual_seed(0)
    return {
        kind.published_name(f"{prefix}.{name}"): each
        for prefix, module in kind.build().by_prefix().items()
        for name, each in scattered(module).state_dict().items()
    }


def parameters(kind: Kind) -> int:
    """Count the parameters of a network."""
    with torch.device("meta"):
        modules = kind.build()
    parts: list[nn.Module] = list(modules.by_prefix().values())
    return sum(each.numel() for part in parts for each in part.parameters())


def encoder_gmac(kind: Kind) -> float | None:
    """Count the multiply-adds of one embedding, in thousand millions, on tensors without values.

    None for a network whose arithmetic depends on the size of the image.
    """
    with torch.device("meta"):
        modules = kind.build()
    if not isinstance(modules, SamModules):
        return None
    encoder = modules.image_encoder.to("meta").eval()
    image = torch.empty(1, 3, modules.image_side, modules.image_side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(image)
    return counter.get_total_flops() / 2e9


def megabytes(folder: Path) -> float:
    """Sum the sizes of the files of a model folder."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


def worst_difference(manifest: Manifest) -> float:
    """Return the largest relative difference between a graph and its module."""
    return max(float(row["relative"]) for row in manifest.parity)
