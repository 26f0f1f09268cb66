"""Device of the training: the memory that tensors lie in, and their arithmetic."""

from __future__ import annotations

import functools
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch

from fastseg import environment

BFLOAT16_INSTRUCTIONS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Names of such instructions on x86-64 and on AArch64."""

Part = TypeVar("Part")


def to_device(part: Part, device: torch.device, *, copy: bool = False) -> Part:
    """Move a tensor, or a tuple or dataclass with tensors in it, to the memory of a device.

    Args:
        part: The value to move; anything but a tensor stays as it is.
        device: The device.
        copy: Copy tensors that lie there already, too.
    """
    found: Any = part
    if isinstance(part, torch.Tensor):
        found = part.to(device, copy=copy)
    elif isinstance(part, tuple):
        found = tuple(to_device(one, device, copy=copy) for one in part)
    elif is_dataclass(part) and not isinstance(part, type):
        names = [field.name for field in fields(part)]
        parts = [to_device(getattr(part, name), device, copy=copy) for name in names]
        found = replace(part, **dict(zip(names, parts, strict=True)))
    return found  # type: ignore[no-any-return]


@functools.cache
def row_dtype(device: torch.device) -> torch.dtype:
    """Return the type of image tokens in training: bfloat16 where the device multiplies it fast.

    A processor without such instructions emulates them: a step was five times as slow on AVX2.
    """
    fast = device.type != "cpu" or not BFLOAT16_INSTRUCTIONS.isdisjoint(environment.instructions())
    return torch.bfloat16 if fast else torch.float32


def autocast_bfloat16(device: torch.device) -> torch.autocast:
    """Compute products in bfloat16 inside of the block, where ``row_dtype`` says so."""
    enabled = row_dtype(device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def autocast_disabled(device: torch.device) -> torch.autocast:
    """Compute everything in float32, inside of ``autocast_bfloat16`` too."""
    return torch.autocast(device.type, enabled=False)
