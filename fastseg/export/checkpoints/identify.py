"""Recognition of a checkpoint: its network, its preparation, its licence, or what it is instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.artifacts.model_card import ModelCard
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import files as checkpoint_files
from fastseg.export.checkpoints import lora as lora_layouts
from fastseg.export.checkpoints import nnunet
from fastseg.export.checkpoints.completion import (
    describe_part,
    takes_no_prompt,
    with_adapter,
    with_decoder,
    with_lora,
)
from fastseg.export.checkpoints.kinds import COUNTER, KINDS, Kind, Modules
from fastseg.export.checkpoints.preparations import PREPARATIONS, Preparation
from fastseg.export.networks import sam_adapter
from fastseg.export.networks.sam import SamModules

SUFFIXES = (".pt", ".pth", ".safetensors")

_REMEDY = "fastseg models lists the checkpoints that fastseg exports"

_OTHERS: tuple[tuple[str, str, str], ...] = (
    ("HQ-SAM 2", "sam_mask_decoder.hf_token.", "Apache-2.0"),
)
"""Networks that are recognised by the beginning of a name and not exported, with their licences."""


PARTS = ("adapter", "decoder", "lora")
"""The fine-tuned parts that may go over a checkpoint, in the order in which they do."""


@dataclass(frozen=True, slots=True)
class Identified:
    """A checkpoint whose network is known."""

    path: Path
    kind: Kind
    weights: Mapping[str, Tensor]
    sha256: str
    published: ModelCard | None
    """The published model whose file this is, by its hash."""

    preparation: str | None
    """Key of ``PREPARATIONS``, or None where the file does not tell."""

    unused: tuple[str, ...]
    """Names of weights that are in the file and no mask depends on."""

    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """File, sha256 and perhaps prompt of the fine-tuned parts, by the words of ``PARTS``."""

    stated: Preparation | None = None
    """The preparation that the file itself states, of networks with a plan."""

    prompt_free: bool = False
    """True if a part states that it was tuned without a prompt, so that the network takes none."""

    def as_dict(self) -> dict[str, Any]:
        """Return what is known, for reports."""
        card = self.published
        return {
            "file": str(self.path),
            "kind": self.kind.name,
            "title": self.kind.title,
            "sha256": self.sha256,
            "published_as": card.name if card else None,
            "licence": card.licence if card else None,
            "weights": len(self.weights),
            "unused": list(self.unused),
            "preprocess": self.preparation,
            "preprocess_choices": list(self.kind.preparations),
            "parts": {part: {**said} for part, said in self.parts.items()},
            "prompt_free": self.prompt_free,
        }

    def modules(self) -> Modules:
        """Build the torch modules around the weights."""
        modules = self.kind.fill(self.weights)
        if self.prompt_free and isinstance(modules, SamModules):
            return modules.without_prompts()
        return modules

    def require_preparation(self) -> Preparation:
        """Return the preparation of images, prompts and masks.

        Raises:
            CheckpointError: The file does not tell, and none was named.
        """
        if self.stated is not None:
            return self.stated
        if self.preparation is not None:
            found = PREPARATIONS[self.preparation]
            return found.without_prompts() if self.prompt_free else found
        choices = "; ".join(
            f"--preprocess {name} ({PREPARATIONS[name].summary})" for name in self.kind.preparations
        )
        raise CheckpointError(
            f"{self.path} has the shape of {self.kind.title} and is none of the published files, "
            "so how its images were prepared in training is not known, and another preparation "
            f"gives masks that look right and are not. Ask its author, and name it: {choices}."
        )


def identify(
    path: str | os.PathLike[str],
    *,
    preprocess: str | None = None,
    key: str | None = None,
    lora: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
) -> Identified:
    """Read a checkpoint and recognise its network by the names and shapes of its weights.

    Nothing in the file is executed.

    Args:
        path: A ``.pt``, ``.pth`` or ``.safetensors`` file.
        preprocess: Key of ``PREPARATIONS``; None for that of the published file, or of the only
            network of this shape. A fine-tune over a base does not tell.
        key: Name under which the file holds the weights, where it holds several.
        lora: LoRA pairs to merge into the weights, see ``completion.with_lora``.
        decoder: A decoder to put over that of the file, see ``completion.with_decoder``.
        adapter: The tuned part of SAM-Adapter over the file, see ``completion.with_adapter``.

    Raises:
        CheckpointError: The file is missing, truncated, holds code, NaN or two sets of weights, or
            is of no network that is exported. The message names the nearest one and how it differs.
    """
    path = Path(path)
    weights = nnunet.without_copies(read_weights(path, key=key))
    planned = nnunet.kind_of(path, weights, partial(checkpoint_files.load, path, remedy=_REMEDY))
    kind, stated = planned or (_kind(path, weights), None)
    digest = artifacts.sha256(path)
    checkpoint_files.check_values(path, {name: weights[name] for name in kind.shapes()})
    published = registry.published(digest)
    parts: dict[str, dict[str, str]] = {}
    given = {"adapter": adapter, "decoder": decoder, "lora": lora}
    completions = {"adapter": with_adapter, "decoder": with_decoder, "lora": with_lora}
    for part in PARTS:
        if (file := given[part]) is not None:
            weights = completions[part](weights, Path(file))
            parts[part] = describe_part(Path(file))
            published = None
    if adapter is not None:
        kind = _kind(Path(adapter), weights)
    return Identified(
        path,
        kind,
        weights,
        digest,
        published,
        _preparation(path, kind, published, preprocess),
        tuple(sorted(set(weights) - set(kind.shapes()))),
        parts,
        stated,
        takes_no_prompt(parts),
    )


def source_modules(source: Mapping[str, Any], path: str | os.PathLike[str]) -> Modules | None:
    """Build the modules of the checkpoint that a model folder was exported from.

    Args:
        source: ``Manifest.source`` of the folder.
        path: The checkpoint.

    Returns:
        The modules, or None for a folder that ``export_checkpoint`` did not write.

    Raises:
        CheckpointError: The file is not the folder's, or the folder holds fine-tuned parts, which
            one file does not have.
    """
    if "preprocess" not in source:
        return None
    if parts := [part for part in PARTS if part in source]:
        raise CheckpointError(
            f"the folder was exported with {' and '.join(parts)} over its checkpoint, so {path} "
            "alone is not its network. Compare a folder without them"
        )
    found = identify(path, preprocess=source["preprocess"])
    if found.sha256 != source.get("sha256"):
        raise CheckpointError(
            f"the folder was not exported from {path}, whose sha256 is {found.sha256[:16]}. Give "
            f"{source.get('file')}"
        )
    return found.modules()


def read_weights(path: Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Read the weights of a file by name, without wrappers, prefixes and counters.

    Raises:
        CheckpointError: As in ``identify``.
    """
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix in SUFFIXES)
        found = f"it holds {', '.join(inside)}" if inside else "it holds no checkpoint"
        raise CheckpointError(f"{path} is a folder: {found}. Name one file")
    found = checkpoint_files.load(path, remedy=_REMEDY)
    weights = checkpoint_files.unwrap(path, found, remedy=_REMEDY, key=key)
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith(COUNTER)}
    low_rank = lora_layouts.parse(path, weights)
    if not low_rank:
        return weights
    if low_rank.numbered or low_rank.peft or not any(map(_is_of_encoder, low_rank.others)):
        raise CheckpointError(
            f"{path} holds LoRA pairs without the network that they change. Name its base, and "
            f"this file by --lora {path.name}"
        )
    return lora_layouts.merge(path, {}, low_rank)


def _is_of_encoder(name: str) -> bool:
    return name.startswith("image_encoder.patch_embed.")


def _is_of_adapter(name: str) -> bool:
    return name.startswith(sam_adapter.GENERATOR)


def _kind(path: Path, weights: Mapping[str, Tensor]) -> Kind:
    differences = []
    for kind in KINDS:  # to the first that fits: the shapes of all take seconds
        if not (mismatch := kind.mismatch(weights)):
            return kind
        differences.append((kind, mismatch))
    if any(map(_is_of_adapter, weights)) and not any(map(_is_of_encoder, weights)):
        raise CheckpointError(
            f"{path} is the tuned part of SAM-Adapter without the network that it adapts. Name "
            f"its base, and this file by --adapter {path.name}"
        )
    for name, beginning, licence in _OTHERS:
        if any(weight.startswith(beginning) for weight in weights):
            raise CheckpointError(_not_exported(path, name, licence))
    nearest, mismatch = max(differences, key=lambda pair: pair[1].shared)
    listed = checkpoint_files.listed
    if mismatch.shared == 0:
        known = ", ".join(kind.title for kind in KINDS)
        raise CheckpointError(
            f"{path} is of no network that fastseg exports: {known}. It begins with "
            f"{listed(sorted(weights))}. {_REMEDY}; weights of the echo U-Net take "
            "fastseg export unet --view VIEW --weights FILE"
        )
    parts = {
        "missing": mismatch.missing,
        "extra": mismatch.extra,
        "of the wrong shape": mismatch.misshapen,
    }
    said = "; ".join(
        f"{len(names)} {what}: {listed(names)}" for what, names in parts.items() if names
    )
    raise CheckpointError(
        f"{path} is none of the networks that fastseg exports. The nearest is {nearest.title}, "
        f"with {mismatch.shared} weights of its names and shapes, but {said}. {_REMEDY}"
    )


def _not_exported(path: Path, network: str, licence: str) -> str:
    return (
        f"{path} is a checkpoint of {network} (licence: {licence}), which fastseg does not export. "
        f"{_REMEDY}"
    )


def _preparation(
    path: Path, kind: Kind, published: ModelCard | None, asked: str | None
) -> str | None:
    if asked is not None:
        if asked not in kind.preparations:
            raise CheckpointError(
                f"{path} is of {kind.title}, which is trained with the preparation "
                f"{' or '.join(kind.preparations)}, not {asked!r}. Name one of these"
            )
        return asked
    if published is not None:
        return published.preparation
    return kind.preparations[0] if kind.certain else None
