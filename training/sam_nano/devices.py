"""What depends on where training runs: the memory that tensors lie in, and their arithmetic."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch

Part = TypeVar("Part")


def moved(part: Part, device: torch.device, *, copy: bool = False) -> Part:
    """A tensor, or a tuple or dataclass with tensors in it, in the memory of a device.

    Args:
        part: What is moved; all that is no tensor stays as it is.
        device: Whose memory.
        copy: Copy also what lies there already.
    """
    found: Any = part
    if isinstance(part, torch.Tensor):
        found = part.to(device, copy=copy)
    elif isinstance(part, tuple):
        found = tuple(moved(one, device, copy=copy) for one in part)
    elif is_dataclass(part) and not isinstance(part, type):
        names = [field.name for field in fields(part)]
        parts = [moved(getattr(part, name), device, copy=copy) for name in names]
        found = replace(part, **dict(zip(names, parts, strict=True)))
    return found  # type: ignore[no-any-return]


def half(device: torch.device) -> torch.autocast:
    """Products in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16)


def full(device: torch.device) -> torch.autocast:
    """Everything in float32, inside of ``half`` too."""
    return torch.autocast(device.type, enabled=False)
