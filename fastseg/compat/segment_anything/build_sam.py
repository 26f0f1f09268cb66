"""Constructors of models by the kind of their encoder, and their registry."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from fastseg.compat.exported import model_folder
from fastseg.compat.segment_anything.sam import Sam

Checkpoint: TypeAlias = str | os.PathLike[str] | None
"""A ``.pth`` or ``.safetensors`` file, a model folder of fastseg, or the name of a model that comes
with fastseg."""


def build_sam_vit_h(checkpoint: Checkpoint = None) -> Sam:
    """Make a SAM ViT-H.

    Args:
        checkpoint: Its weights. The first time a file is exported to a model folder in the user's
            cache, which takes minutes and needs the extra ``export``.

    Raises:
        MissingCheckpointError: There is no such file. It is a ``FileNotFoundError`` too.
        WrongCheckpointError: The file is of another network. It is a ``RuntimeError`` too.
        CheckpointError: ``checkpoint`` is None, or the file is damaged or holds code.
        BackendUnavailableError: The file was not exported yet, and the extra is not installed.
    """
    return Sam(model_folder(checkpoint, "vit_h"))


def build_sam_vit_l(checkpoint: Checkpoint = None) -> Sam:
    """Make a SAM ViT-L; see ``build_sam_vit_h``."""
    return Sam(model_folder(checkpoint, "vit_l"))


def build_sam_vit_b(checkpoint: Checkpoint = None) -> Sam:
    """Make a SAM ViT-B; see ``build_sam_vit_h``."""
    return Sam(model_folder(checkpoint, "vit_b"))


build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
}
"""Constructors by kind, as in the reference."""
