"""Fine-tunes that are a part of a network: LoRA pairs, a decoder or an adapter, over a base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from fastseg import artifacts
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import files as checkpoint_files
from fastseg.export.checkpoints import lora
from fastseg.export.checkpoints.files import listed
from fastseg.export.networks import sam_adapter

_REMEDY = "Name the .pt, .pth or .safetensors file of the fine-tune"

_PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")

PROMPT, NO_PROMPT = "fastseg.prompt", "none"
"""Entry in the header of a ``.safetensors`` file that tells the prompt that a part was tuned with,
and its value for none."""

_DECODERS = ("mask_decoder.", "sam_mask_decoder.")
_PROMPTS = ("prompt_encoder.", "sam_prompt_encoder.")


def read_part(path: Path) -> dict[str, Tensor]:
    """Read the weights of a part of a network; PEFT's may be named by their folder.

    Raises:
        CheckpointError: The file is missing, truncated, holds code or no weights, or a value is not
            finite.
    """
    file = _file(path)
    found = checkpoint_files.load(file, remedy=_REMEDY)
    weights = checkpoint_files.unwrap(file, found, remedy=_REMEDY)
    checkpoint_files.check_values(file, weights)
    return weights


def describe_part(path: Path) -> dict[str, str]:
    """Return name and hash of the file of a part, and the prompt of its tuning where it tells."""
    file = _file(path)
    said = {"file": path.name, "sha256": artifacts.sha256(file)}
    prompt = _prompt(file)
    return said if prompt is None else {**said, "prompt": prompt}


def _prompt(file: Path) -> str | None:
    if file.suffix != ".safetensors":
        return None
    with safe_open(file, framework="pt") as opened:
        found: str | None = (opened.metadata() or {}).get(PROMPT)
    return found


def takes_no_prompt(parts: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell from what is known of the parts of a network whether it was tuned without a prompt.

    Raises:
        CheckpointError: One part was tuned without a prompt and another one with a prompt.
    """
    stated = {said["prompt"]: said["file"] for said in parts.values() if "prompt" in said}
    if NO_PROMPT in stated and len(stated) > 1:
        told = ", ".join(f"{file} (prompt: {prompt})" for prompt, file in sorted(stated.items()))
        raise CheckpointError(
            f"the parts were tuned with different prompts: {told}. No mask of both together would "
            "mean anything. Name parts of one tuning"
        )
    return NO_PROMPT in stated


def _file(path: Path) -> Path:
    return next((path / name for name in _PEFT_FILES if (path / name).is_file()), path)


def with_lora(base: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Merge the LoRA pairs of a file into the weights of its base.

    Raises:
        CheckpointError: There is no pair, or see ``lora.merge``.
    """
    low_rank = lora.parse(path, read_part(path))
    if not low_rank:
        raise CheckpointError(
            f"{path} holds no LoRA pairs in a layout that fastseg knows. It begins with "
            f"{listed(sorted(low_rank.others))}"
        )
    return lora.merge(path, base, low_rank)


def with_decoder(base: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Put the decoder of a file, and its prompt encoder if it has one, over that of its base.

    Names may begin with ``mask_decoder.`` or be those inside the decoder. A whole network is taken
    if its image encoder is that of the base.

    Raises:
        CheckpointError: The file holds no decoder, one of another network, or an image encoder that
            differs from that of the base.
    """
    weights = read_part(path)
    prefix = next((each for each in _DECODERS if any(name.startswith(each) for name in base)), None)
    if prefix is None:
        raise CheckpointError(
            f"{path} cannot go over this base, which has no mask decoder of its own. Name a "
            "network of SAM's shape as base"
        )
    if not any(name.startswith((*_DECODERS, *_PROMPTS, "image_encoder.")) for name in weights):
        weights = {f"{prefix}{name}": tensor for name, tensor in weights.items()}
    taken = {
        name: each for name, each in weights.items() if name.startswith((*_DECODERS, *_PROMPTS))
    }
    wanted = {name for name in base if name.startswith(prefix)}
    strange = sorted(
        name for name, each in taken.items() if name not in base or base[name].shape != each.shape
    )
    missing = sorted(wanted - set(taken))
    if strange or missing:
        said = f"it lacks {listed(missing)}" if missing else f"it holds {listed(strange)}"
        raise CheckpointError(
            f"{path} is not the decoder of this base: {said}. Name the base that it was trained "
            "over"
        )
    _require_own(path, base, {name: weights[name] for name in set(weights) - set(taken)})
    return {**base, **taken}


def with_adapter(base: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Put the tuned part of SAM-Adapter over the image encoder of its base.

    The tuned part is the adapter, the mask decoder and what stands for the prompt encoder; that of
    the base was never read in training. A whole network is taken if the rest of its image encoder
    is that of the base.

    Raises:
        CheckpointError: The base is no SAM, or the file lacks a part or is of another base.
    """
    weights = read_part(path)
    beginnings = (sam_adapter.GENERATOR, "mask_decoder.", *sam_adapter.OWN)
    own = {name: each for name, each in weights.items() if name.startswith(beginnings)}
    lacking = [each for each in beginnings if not any(name.startswith(each) for name in own)]
    if lacking:
        raise CheckpointError(
            f"{path} is no tuned part of SAM-Adapter: it holds no {listed(lacking)}. Those of the "
            "base must not stand in for them, as the tuning never saw them. Save them with the rest"
        )
    encoder = {name: each for name, each in base.items() if name.startswith("image_encoder.")}
    place = "image_encoder.pos_embed"
    width = base[place].shape[-1] if place in base else None
    tuned = own[f"{sam_adapter.GENERATOR}shared_mlp.weight"].shape[0]
    if tuned != width:
        raise CheckpointError(
            f"{path} adapts an image encoder of {tuned} channels, and that of the base has "
            f"{width or 'other layers'}. Name the SAM that it was trained over"
        )
    _require_own(path, base, {name: weights[name] for name in set(weights) - set(own)})
    return {**encoder, **own}


def _require_own(path: Path, base: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> None:
    """Refuse a whole network whose image encoder is not that of the base."""
    changed = [
        name
        for name in sorted(others)
        if name in base
        and (
            others[name].shape != base[name].shape
            or not torch.equal(others[name].float(), base[name].float())
        )
    ]
    if changed:
        raise CheckpointError(
            f"{path} is a whole network whose image encoder differs from that of the base: "
            f"{listed(changed)}. Export it by itself: fastseg export {path.name}"
        )
