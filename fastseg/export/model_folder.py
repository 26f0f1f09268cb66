"""The parts that all exports of model folders share: card, parity, progress and copies."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import Manifest
from fastseg.errors import BackendUnavailableError, OutputError, ParityError
from fastseg.validation import comparison
from fastseg.validation.comparison import Comparison, Limits
from fastseg.validation.parity import Table

TOLERANCE = 1e-4
"""Largest relative difference from the torch modules that an export may have.

Rounding alone stays far below; a wrong weight or a wrong order of axes is far above.
"""

Progress = Callable[[str], None]
"""A function that is called with a few words as each step begins."""


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of ``model.json`` that describe a model."""

    name: str
    licence: str = ""
    description: str = ""
    source: dict[str, Any] = field(default_factory=dict)


def require_parity(name: str, table: Table) -> None:
    """Refuse a model whose graphs differ from the modules that they were made from.

    Args:
        name: Of the model, for the message.
        table: The differences.

    Raises:
        ParityError: A difference exceeds ``TOLERANCE``; the message holds the whole table.
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
    """List the versions of the installed packages that take part in an export."""
    found = {}
    for package in ("fastseg-runtime", "torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def silent(_: str) -> None:
    """Ignore the progress."""


def copy_graphs(folder: ModelFolder, target: Path, *, without: str) -> None:
    """Copy the files of a folder, except for graphs of the precision that is written anew.

    The files are copied and not linked: ONNX's packages refuse weights in files with two names.

    Raises:
        OutputError: A file cannot be written.
    """
    for file in _files(folder.manifest, without):
        _copy(folder.path / file, target / file)


def comparison_record(found: Comparison, limits: Limits, *, arithmetic: str) -> dict[str, Any]:
    """Describe a comparison that graphs have passed, as ``model.json`` stores it.

    Args:
        found: The comparison.
        limits: The limits that it was within.
        arithmetic: The arithmetic of the compared graphs, in words.
    """
    return {
        "against": f"{comparison.REFERENCE.backend}:{comparison.REFERENCE.precision}",
        "arithmetic": arithmetic,
        "limits": limits.as_dict(),
        **found.as_dict(),
    }


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error}.") from error


def _files(manifest: Manifest, without: str) -> list[str]:
    """List every file to copy, once."""
    graphs = [one for one in manifest.graphs.values() if one.precision != without]
    stored = [*manifest.weights.values(), *(file for one in graphs for file in one.files)]
    return list(dict.fromkeys(one.file for one in stored))
