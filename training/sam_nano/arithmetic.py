"""Where training computes in bfloat16 and where in float32, on any device."""

from __future__ import annotations

import torch


def half(device: torch.device) -> torch.autocast:
    """Products in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16)


def full(device: torch.device) -> torch.autocast:
    """Everything in float32, inside of ``half`` too."""
    return torch.autocast(device.type, enabled=False)
