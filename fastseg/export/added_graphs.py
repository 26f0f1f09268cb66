"""What every export keeps to that adds graphs of another precision to a model folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import Manifest
from fastseg.errors import OutputError
from fastseg.validation import comparison
from fastseg.validation.comparison import Comparison, Limits


def take_over(folder: ModelFolder, target: Path, *, without: str) -> None:
    """Copy the files of a folder, but for graphs of the precision that is written anew.

    Copies, not links: ONNX's packages read no weights from files with two names.

    Raises:
        OutputError: A file cannot be written.
    """
    for file in _files(folder.manifest, without):
        _copy(folder.path / file, target / file)


def verdict(found: Comparison, limits: Limits, *, arithmetic: str) -> dict[str, Any]:
    """What ``model.json`` says of the comparison that graphs have passed."""
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
    """Every file that is taken over, once."""
    graphs = [one for one in manifest.graphs.values() if one.precision != without]
    stored = [*manifest.weights.values(), *(file for one in graphs for file in one.files)]
    return list(dict.fromkeys(one.file for one in stored))
