"""The network that a fine-tuning starts from: a checkpoint, or a model folder's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry, safetensors
from fastseg.artifacts.manifest import SAM
from fastseg.errors import ModelError, ModelFolderError
from fastseg.export.checkpoints import nano
from fastseg.export.checkpoints.identify import PARTS, Identified, identify
from fastseg.export.checkpoints.kinds import KINDS, Kind
from fastseg.export.checkpoints.preparations import PREPARATIONS, Preparation
from fastseg.export.networks.sam import SamModules
from fastseg.export.networks.sam_adapter import GENERATOR, OWN

ADAPTER = "sam-adapter-"
"""Beginning of the names of kinds with an adapter."""

NANO_WEIGHTS = Path(__file__).parents[1] / "weights" / "sam_nano.safetensors"


@dataclass(frozen=True, slots=True)
class Start:
    """Weights by name, their network, and how its images are prepared."""

    kind: Kind
    weights: Mapping[str, Tensor]
    preparation: Preparation
    source: Mapping[str, Any]
    """Entries of the tuned model's card about its base."""

    licence: str

    def modules(self) -> SamModules:
        """Build modules around copies of the weights, which training may change."""
        copies = {name: weight.detach().float().clone() for name, weight in self.weights.items()}
        return self.kind.fill(copies)

    def adapted(self, seed: int) -> Start:
        """Put the adapter of SAM-Adapter into the encoder; at first it changes nothing.

        Its layers start at random by the seed, and the last one at zero. Positions and the
        embedding of no mask are those of the base.

        Raises:
            ModelError: The network is not SAM ViT-B, L or H.
        """
        if self.kind.name.startswith(ADAPTER):
            return self
        wanted = ADAPTER + self.kind.name.replace("_", "-")
        kind = next((one for one in KINDS if one.name == wanted), None)
        if kind is None:
            raise ModelError(
                f"SAM-Adapter is for SAM ViT-B, L and H, whose blocks it adds to, and this is "
                f"{self.kind.title}. Choose the method decoder or lora."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = kind.build()
        weights = dict(self.weights)
        for name, tensor in fresh.image_encoder.state_dict().items():
            if f"image_encoder.{name}".startswith(GENERATOR):
                last = name.startswith("prompt_generator.shared_mlp.")
                weights[f"image_encoder.{name}"] = torch.zeros_like(tensor) if last else tensor
        for name in OWN:
            for key in [one for one in weights if one.startswith(f"prompt_encoder.{name}")]:
                weights[key.removeprefix("prompt_encoder.")] = weights[key]
        return replace(
            self, kind=kind, weights=weights, preparation=PREPARATIONS[kind.preparations[0]]
        )


def read_start(model: str, *, preprocess: str | None = None) -> Start:
    """Read the network to start from.

    Args:
        model: A checkpoint that ``fastseg export`` takes, an embedded model, or a model folder that
            was exported from SAM ViT-B, L or H, whose files hold every weight.
        preprocess: Preparation of the checkpoint's images, where the file does not tell.

    Raises:
        CheckpointError: The file is of no network that fastseg knows.
        ModelNotFoundError: There is no such file, name or folder.
        ModelFolderError: The folder is damaged, or does not hold the weights to train.
    """
    if Path(model).is_file():
        return _of_checkpoint(identify(model, preprocess=preprocess))
    folder = artifacts.read(registry.find(model))
    kind = folder.manifest.source.get("kind")
    if folder.manifest.family != SAM or kind is None:
        raise ModelFolderError(f"{model} is no network of SAM's shape. Start from one that is.")
    if kind == nano.KIND:
        return _of_nano(model, folder)
    return _of_folder(model, folder)


def _of_checkpoint(found: Identified) -> Start:
    source = {
        "file": found.path.name,
        "sha256": found.sha256,
        "kind": found.kind.name,
        "preprocess": found.preparation,
    }
    licence = found.published.licence if found.published else ""
    return Start(found.kind, found.weights, found.require_preparation(), source, licence)


def _of_nano(model: str, folder: ModelFolder) -> Start:
    """Take the file that sam-nano was exported from, whose hash its folder holds."""
    wanted = folder.manifest.source.get("checkpoint_sha256")
    if not NANO_WEIGHTS.is_file() or artifacts.sha256(NANO_WEIGHTS) != wanted:
        raise ModelFolderError(
            f"{model} was exported from other weights than {NANO_WEIGHTS.name} of this clone. "
            "Start from the file that it was exported from."
        )
    start = _of_checkpoint(identify(NANO_WEIGHTS))
    return Start(
        start.kind, start.weights, start.preparation, start.source, folder.manifest.licence
    )


def _of_folder(model: str, folder: ModelFolder) -> Start:
    """Read the files for native kernels, which hold encoder and decoder under their own names."""
    source, stored = folder.manifest.source, folder.manifest.weights
    name = source["kind"]
    kind = next((one for one in KINDS if one.name == name), None)
    if kind is None or not {"encoder", "decoder"} <= set(stored) or set(PARTS) & set(source):
        raise ModelFolderError(
            f"{model} does not hold the weights of its encoder by name. Start from the checkpoint "
            f"that it was exported from, {source.get('file', 'of its author')}."
        )
    decoder, encoder = (
        safetensors.read(folder.path / stored[part].file) for part in ("decoder", "encoder")
    )
    weights = {name: torch.from_numpy(array.copy()) for name, array in decoder.items()}
    for name, array in encoder.items():
        weight = torch.from_numpy(array.copy())
        if name.endswith("kernel"):
            name, weight = f"{name.removesuffix('kernel')}weight", weight.T.contiguous()
        weights[f"image_encoder.{name}"] = weight
    preparation = PREPARATIONS[source.get("preprocess") or "sam"]
    base = {key: source[key] for key in ("file", "sha256", "kind") if key in source}
    return Start(
        kind,
        weights,
        preparation,
        {**base, "preprocess": source.get("preprocess") or "sam"},
        folder.manifest.licence,
    )
