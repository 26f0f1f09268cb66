"""What every export of a model folder keeps to: its card, its verdict, and how it tells of both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from fastseg.errors import BackendUnavailableError, ParityError
from fastseg.validation.parity import Table

TOLERANCE = 1e-4
"""Largest relative difference from the torch modules that an export may have.

Rounding alone stays far below; a wrong weight or a wrong order of axes is far above.
"""

Progress = Callable[[str], None]
"""Told in a few words which step begins."""


@dataclass(frozen=True, slots=True)
class Card:
    """What ``model.json`` says beside the graphs."""

    name: str
    licence: str = ""
    description: str = ""
    source: dict[str, Any] = field(default_factory=dict)


def require_parity(name: str, table: Table) -> None:
    """Let a model pass whose graphs agree with the modules that they were made from.

    Raises:
        ParityError: They do not; the message holds the whole table.
    """
    if not table.within(TOLERANCE):
        raise ParityError(f"{name} differs from its source; it was not kept.\n{table}")


def parameter_count(*modules: nn.Module) -> int:
    """Count the weights of some modules, those that two of them share once."""
    weights = {id(weight): weight for module in modules for weight in module.parameters()}
    return sum(weight.numel() for weight in weights.values())


def require_precision(precision: str) -> None:
    """Refuse a precision that no export writes.

    Raises:
        BackendUnavailableError: It is neither ``"fp32"`` nor ``"fp16"``.
    """
    if precision not in ("fp32", "fp16"):
        raise BackendUnavailableError(
            f"precision {precision!r}",
            reason="exports write fp32 and, beside it, fp16",
            remedy='Export with precision="fp16" or "fp32".',
        )


def versions() -> dict[str, str]:
    """Versions of what takes part in an export and is installed."""
    found = {}
    for package in ("fastseg-runtime", "torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def silent(_: str) -> None:
    """Progress that nobody watches."""
