"""Files of a run: its state, its weights, and the card of the exported model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from fastseg.storage.atomic import atomic_file

MODEL_CARD = "README.md"
"""Written by hand, so it outlives a new export."""


def save_state(state: Mapping[str, Any], file: Path) -> None:
    """Write the state of a run whole or not at all."""
    with atomic_file(file) as partial:
        torch.save(state, partial)


def save_weights(network: nn.Module, file: Path) -> None:
    """Write a network's weights as safetensors."""
    packed = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(packed, str(file))


@contextmanager
def keeping_card(folder: Path) -> Iterator[None]:
    """Take the model card out of a folder for a block that writes the folder anew, and put it back.

    A folder with a file that fastseg did not write is not replaced.
    """
    card = folder / MODEL_CARD
    text = card.read_bytes() if card.exists() else None
    if text is not None:
        card.unlink()
    try:
        yield
    finally:
        if text is not None:
            card.write_bytes(text)
