"""Weights as they are published: read without running code, recognised, and compared by name."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastseg import artifacts, registry
from fastseg.errors import CheckpointError
from fastseg.export.image_encoder import SHAPES

SHOWN = 6
"""Names of each kind that an error lists before it only counts."""

_REMEDY = (
    "Give a SAM ViT-B, ViT-L or ViT-H checkpoint (.pth or .safetensors) as published, or one "
    "fine-tuned from it"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights by their names, and the file that they came from."""

    path: Path
    kind: str
    """``"vit_b"``, ``"vit_l"`` or ``"vit_h"``."""

    weights: Mapping[str, Tensor]
    sha256: str

    def fill(self, modules: Mapping[str, nn.Module]) -> None:
        """Put the weights into modules, by prefix; every weight must find its place.

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
        if (complaint := _difference(wanted, self.weights)) is not None:
            raise CheckpointError(f"{self.path} is not SAM {self.kind}: {complaint}. {_REMEDY}")
        for prefix, module in modules.items():
            own = {
                name: self.weights[f"{prefix}.{name}"].detach().float()
                for name in module.state_dict()
            }
            module.load_state_dict(own, assign=True)


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a SAM checkpoint and tell which network it is of.

    A ``.pth`` file is a pickle; only tensors and plain containers in it are accepted, and nothing
    in it is executed.

    Args:
        path: A ``.pth`` or ``.safetensors`` file. Weights may stand under ``"model"`` or
            ``"state_dict"``, and under ``"module."`` as data-parallel training leaves them.

    Raises:
        CheckpointError: The file is missing, truncated, holds code, or is of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}. {_REMEDY}")
    weights = _unwrap(path, _load(path))
    digest = artifacts.sha256(path)
    _refuse_relatives(path, weights, digest)
    kind = _kind(path, weights)
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise CheckpointError(f"{name} in {path} is {tensor.dtype}, not floating point")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{name} in {path} has values that are not finite: the training diverged or the "
                "file is damaged. Take an earlier checkpoint"
            )
    return Checkpoint(path, kind, weights, digest)


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # A mapped file is read where and when it is needed; the old format cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that are then refused
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged. Nothing in it was executed "
            f"({reason}). Ask its author for the bare weights, best as .safetensors"
        ) from error
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # torch, zip and safetensors each raise their own on a bad file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is truncated or no checkpoint at all ({reason}). Download it again"
        ) from error


def _unwrap(path: Path, found: Any) -> dict[str, Tensor]:
    """Strip what training scripts wrap around the weights."""
    if isinstance(found, Mapping) and {"state_dict", "config"} <= set(found):
        raise CheckpointError(_unsupported(path, "RITM"))
    for wrapper in ("model", "state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{path} holds {type(found).__name__}, not weights by name. {_REMEDY}"
        )
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if others or not found:
        held = _listed(others) if others else "nothing"
        raise CheckpointError(f"{path} holds {held} where weights were expected. {_REMEDY}")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def _refuse_relatives(path: Path, weights: Mapping[str, Tensor], digest: str) -> None:
    """Name the networks that look like SAM, would load in part, and give wrong masks."""
    stem = weights.get("image_encoder.patch_embed.seq.0.c.weight")
    if stem is not None:
        tiny = "LiteMedSAM" if stem.shape[-1] == 1 else "MobileSAM"
        raise CheckpointError(_unsupported(path, tiny))
    if any(name.startswith("image_encoder.prompt_generator.") for name in weights):
        raise CheckpointError(_unsupported(path, "SAM-Adapter"))
    for card in registry.KNOWN:
        known = card.checkpoint is not None and card.checkpoint.sha256 == digest
        if known and not card.name.startswith("sam-vit-"):
            # The weights would fit; the pictures would be prepared in the wrong way.
            raise CheckpointError(_unsupported(path, card.description))


def _unsupported(path: Path, network: str) -> str:
    return f"{path} is a checkpoint of {network}, which is not supported yet. {_REMEDY}"


def _kind(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Tell ViT-B, L and H apart by the width of the position embedding."""
    positions = weights.get("image_encoder.pos_embed")
    if positions is None or positions.ndim != 4:
        raise CheckpointError(
            f"{path} has no image_encoder.pos_embed (1, 64, 64, width), so it is not SAM. "
            f"It begins with {_listed(sorted(weights))}. {_REMEDY}"
        )
    for kind, shape in SHAPES.items():
        if shape.width == positions.shape[3]:
            return kind
    widths = ", ".join(str(shape.width) for shape in SHAPES.values())
    raise CheckpointError(
        f"{path} has an encoder of width {positions.shape[3]}, and SAM has {widths}. {_REMEDY}"
    )


def _difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Say in words how two sets of weights differ, or None if they do not."""
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted))
    misshapen = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(found))
        if found[name].shape != wanted[name].shape
    ]
    parts = (("missing", missing), ("extra", extra), ("of the wrong shape", misshapen))
    said = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in parts if names]
    return "; ".join(said) or None


def _listed(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
