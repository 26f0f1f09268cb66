"""Model folders of networks with random weights, kept between runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fastseg import artifacts
from fastseg.artifacts.manifest import Manifest
from fastseg.export.checkpoints.kinds import KINDS, Kind
from fastseg.export.networks.sam import SamModules
from fastseg.export.promptable import export_checkpoint

BY_NAME = {kind.name: kind for kind in KINDS}


def folder_of(kind: Kind, place: Path, progress: Callable[[str], None]) -> Path:
    """Return the model folder of a network in ``place``; export it if it is not there.

    Weights are the random ones that the modules begin with, drawn by a fixed seed.
    """
    folder = place / kind.name
    if artifacts.is_model_folder(folder):
        return folder
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as temporary:
        checkpoint = Path(temporary) / f"{kind.name}.pt"
        torch.save(random_weights(kind), checkpoint)
        export_checkpoint(
            checkpoint, folder, preprocess=kind.preparations[0], licence="none", progress=progress
        )
    return folder


def random_weights(kind: Kind) -> dict[str, torch.Tensor]:
    """Draw weights of a network, by their names in its checkpoints."""
    torch.manual_seed(0)
    return {
        kind.published_name(f"{prefix}.{name}"): each
        for prefix, module in kind.build().by_prefix().items()
        for name, each in module.state_dict().items()
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
