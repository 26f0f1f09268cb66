"""SAM checkpoints: read without running code, recognised, and compared by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import files as checkpoint_files
from fastseg.export.networks.image_encoder import SHAPES

_REMEDY = (
    "Give a SAM ViT-B, ViT-L or ViT-H checkpoint (.pth or .safetensors) as published, or one "
    "fine-tuned from it"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights by name, with the file that they came from."""

    path: Path
    kind: str
    """``"vit_b"``, ``"vit_l"`` or ``"vit_h"``."""

    weights: Mapping[str, Tensor]
    sha256: str

    def fill(self, modules: Mapping[str, nn.Module]) -> None:
        """Put the weights into modules, by prefix; every weight must be used.

        Args:
            modules: Prefix (``"image_encoder"``) to a module, which may be on the meta device.

        Raises:
            CheckpointError: Weights are missing, extra or of another shape; all are listed.
        """
        wanted = {
            f"{prefix}.{name}": tensor
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        if (complaint := checkpoint_files.difference(wanted, self.weights)) is not None:
            raise CheckpointError(f"{self.path} is not SAM {self.kind}: {complaint}. {_REMEDY}")
        for prefix, module in modules.items():
            own = {
                name: self.weights[f"{prefix}.{name}"].detach().float()
                for name in module.state_dict()
            }
            module.load_state_dict(own, assign=True)


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a SAM checkpoint and recognise its network.

    A ``.pth`` file is a pickle; only tensors and plain containers in it are accepted, and nothing
    in it is executed.

    Args:
        path: A ``.pth`` or ``.safetensors`` file. Weights may stand under one of
            ``files.WRAPPERS``, and their names may begin with some of ``files.PREFIXES``.

    Raises:
        CheckpointError: The file is missing, truncated, holds code, or is of another network.
    """
    path = Path(path)
    found = checkpoint_files.load(path, remedy=_REMEDY)
    if isinstance(found, Mapping) and {"state_dict", "config"} <= set(found):
        raise CheckpointError(_unsupported(path, "RITM"))
    weights = checkpoint_files.unwrap(path, found, remedy=_REMEDY)
    digest = artifacts.sha256(path)
    _refuse_relatives(path, weights, digest)
    kind = _kind(path, weights)
    checkpoint_files.check_values(path, weights)
    return Checkpoint(path, kind, weights, digest)


def _refuse_relatives(path: Path, weights: Mapping[str, Tensor], digest: str) -> None:
    """Name the networks that look like SAM, would load in part, and give wrong masks."""
    stem = weights.get("image_encoder.patch_embed.seq.0.c.weight")
    if stem is not None:
        tiny = "LiteMedSAM" if stem.shape[-1] == 1 else "MobileSAM"
        raise CheckpointError(_unsupported(path, tiny))
    if any(name.startswith("image_encoder.prompt_generator.") for name in weights):
        raise CheckpointError(_unsupported(path, "SAM-Adapter"))
    known = registry.published(digest)
    if known is not None and not known.name.startswith("sam-vit-"):
        # The weights would fit; the images would be preprocessed in the wrong way.
        raise CheckpointError(_unsupported(path, known.description))


def _unsupported(path: Path, network: str) -> str:
    return (
        f"{path} is a checkpoint of {network}, and this reads SAM alone. Export it by "
        f"fastseg export {path.name} --out FOLDER"
    )


def _kind(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Tell ViT-B, L and H apart by the width of the position embedding."""
    positions = weights.get("image_encoder.pos_embed")
    if positions is None or positions.ndim != 4:
        raise CheckpointError(
            f"{path} has no image_encoder.pos_embed (1, 64, 64, width), so it is not SAM. "
            f"It begins with {checkpoint_files.listed(sorted(weights))}. {_REMEDY}"
        )
    for kind, shape in SHAPES.items():
        if shape.width == positions.shape[3]:
            return kind
    widths = ", ".join(str(shape.width) for shape in SHAPES.values())
    raise CheckpointError(
        f"{path} has an encoder of width {positions.shape[3]}, and SAM has {widths}. {_REMEDY}"
    )
