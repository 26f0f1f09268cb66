"""The weights of sam-nano, as its training leaves them."""

from __future__ import annotations

import os
from pathlib import Path

from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import files as checkpoint_files
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.nano_encoder import NanoEncoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules

KIND = "sam-nano"
"""``source.kind`` of its model folder."""

_REMEDY = "Give the .safetensors file that training sam-nano leaves"


def read(path: str | os.PathLike[str]) -> SamModules:
    """Build the torch modules of sam-nano around its weights; nothing in the file is executed.

    Raises:
        CheckpointError: The file is missing or truncated, or of another network.
    """
    path = Path(path)
    found = checkpoint_files.load(path, remedy=_REMEDY)
    weights = checkpoint_files.unwrap(path, found, remedy=_REMEDY)
    modules = SamModules(NanoEncoder(), PromptEncoder(), MaskDecoder())
    for prefix, module in modules.by_prefix().items():
        own = {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"{prefix}.")
        }
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"{path} is not of sam-nano: {error}. {_REMEDY}") from error
    return modules
