"""Export of any promptable checkpoint: recognised, completed, written and compared."""

from __future__ import annotations

import os
from pathlib import Path

from fastseg.export.checkpoints.identify import Identified, identify
from fastseg.export.guided import write_guided_folder
from fastseg.export.model_folder import Card, Progress, require_precision, silent
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.sam import write_sam_folder
from fastseg.validation.parity import Table


def export_checkpoint(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    preprocess: str | None = None,
    key: str | None = None,
    lora: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
    precision: str = "fp32",
    name: str | None = None,
    licence: str | None = None,
    progress: Progress | None = None,
) -> Table:
    """Turn a checkpoint of any kind in ``checkpoints.kinds`` into a model folder.

    The folder appears whole, and only if every graph, run in ONNX Runtime, agrees with the torch
    modules. Its ``model.json`` holds the differences, the preprocessing of images and the rules
    for prompts and masks.

    Args:
        checkpoint: A ``.pt``, ``.pth`` or ``.safetensors`` file; see ``identify``.
        out: The folder to write. A model folder of that name is replaced, another one never.
        preprocess: Key of ``PREPARATIONS``: how the network's images were prepared in training.
            None where the file tells, as published files do.
        key: Name under which the file holds the weights, where it holds several sets.
        lora: A file of LoRA pairs over the checkpoint, or PEFT's folder; they are merged.
        decoder: A file with a fine-tuned decoder over the checkpoint.
        adapter: A file with the tuned part of SAM-Adapter over the checkpoint.
        precision: ``"fp32"``, or ``"fp16"`` for mixed-precision graphs beside the float32 ones.
        name: The model's name; that of the folder if left out.
        licence: Of the weights; that of the published checkpoint if it is one.
        progress: Called with a few words as each step begins.

    Returns:
        The differences between graphs and modules, a row a tensor.

    Raises:
        CheckpointError: The file cannot be read, is of no kind that is exported, or does not tell
            its preparation.
        BackendUnavailableError: The precision cannot be written, or ONNX Runtime is missing.
        OutputError: The folder cannot be written.
        ParityError: A graph does not do what its module does.
    """
    require_precision(precision)
    step = progress or silent
    step("reading the checkpoint")
    parts = {"lora": lora, "decoder": decoder, "adapter": adapter}
    found = identify(checkpoint, preprocess=preprocess, key=key, **parts)
    preparation = found.require_preparation()
    modules, card = found.modules(), _card(found, name or Path(out).name, licence)
    if isinstance(modules, GuidedModules):
        return write_guided_folder(
            modules, out, card, preparation=preparation, precision=precision, progress=step
        )
    return write_sam_folder(
        modules, out, card, precision=precision, preparation=preparation, progress=step
    )


def _card(found: Identified, name: str, licence: str | None) -> Card:
    """Describe a checkpoint: all facts of a published one, else its kind and hash."""
    published = found.published
    known = published.licence if published else ""
    return Card(
        name=name,
        licence=known if licence is None else licence,
        description=published.description if published else f"{found.kind.title} weights",
        source={
            "file": found.path.name,
            "sha256": found.sha256,
            "kind": found.kind.name,
            "preprocess": found.preparation,
            "published_as": published.name if published else None,
            **{part: {**said} for part, said in found.parts.items()},
        },
    )
