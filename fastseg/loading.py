"""From a name or a folder to a model that is ready to run."""

from __future__ import annotations

import os

from fastseg import artifacts, registry
from fastseg.errors import ModelFolderError
from fastseg.everything import Sam
from fastseg.graphs import Choice
from fastseg.images import MAX_PIXELS


def load(
    model: str | os.PathLike[str],
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Sam:
    """Load a model.

    Args:
        model: The name of an embedded model (``fastseg.list_models()``) or a model folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"``, ``"onnxruntime"``, ``"openvino"``, ``"tensorrt"``, ``"tensorrt-rtx"``.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``.
        threads: Processor threads; 0 means every core that this process may use.
        max_pixels: Largest picture accepted, height x width; None lifts the limit.

    Returns:
        The model. What is named is used; only ``"auto"`` chooses, and ``model.backend``,
        ``model.device`` and ``model.precision`` say what it chose.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or from a newer version.
        BackendUnavailableError: What was asked for by name cannot be had here.
    """
    folder = artifacts.read(registry.find(model))
    if folder.manifest.family != "sam":
        raise ModelFolderError(
            f"{folder.path} holds a model of the family {folder.manifest.family!r}, which this "
            "version cannot run. Update fastseg."
        )
    return Sam(folder, Choice(device, backend, precision, threads), max_pixels=max_pixels)
