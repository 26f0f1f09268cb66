"""From a name or a folder to a model that is ready to run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry
from fastseg.artifacts.manifest import SAM, UNET
from fastseg.errors import ModelFolderError
from fastseg.images import MAX_PIXELS
from fastseg.inference.sessions import Choice
from fastseg.sam.model import Sam

if TYPE_CHECKING:
    from fastseg.echo.unet import Unet

Model: TypeAlias = str | os.PathLike[str]


@overload
def load(
    model: Literal["sam-nano"],
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Sam: ...


@overload
def load(
    model: Literal["echo-a2c", "echo-a4c", "echo-sax"],
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Unet: ...


@overload
def load(
    model: Model,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Sam | Unet: ...


def load(
    model: Model,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Sam | Unet:
    """Load a model.

    Args:
        model: The name of an embedded model (``fastseg.list_models()``) or a model folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"``, ``"onnxruntime"``, ``"openvino"``, ``"tensorrt"``, ``"tensorrt-rtx"``,
            ``"native"`` (fastseg's own kernels, for prompts and in ``"bf16"`` for SAM's vision
            transformers and the echo U-Net; other pictures are left to ``"auto"``), or two of
            them as in ``"openvino+onnxruntime"``: the encoder's and the decoder's.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``. ``"bf16"`` needs
            a processor that has it, and OpenVINO for what looks at the picture, but for SAM's
            vision transformers and the echo U-Net where there is AMX; what places prompts stays
            in FP32. ``"fp16"`` and ``"int8"`` need graphs that ``fastseg export half`` or ``int8``
            added.
        threads: Processor threads of a call; 0 means every core that this process may use. With
            fewer, callers in several threads run as many calls at once as the cores are enough for:
            ``threads=1`` is for throughput, all of them for one call's latency.
        max_pixels: Largest picture accepted, height x width; None lifts the limit.

    Returns:
        A ``Sam`` for a model that takes prompts, a ``Unet`` for one that takes frames. What is
        named is used; only ``"auto"`` chooses, for each graph, and ``model.runs`` says what.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or from a newer version.
        BackendUnavailableError: What was asked for by name cannot be had here.
    """
    folder, choice = _read(model), Choice(device, backend, precision, threads)
    if folder.manifest.family == UNET:
        return _unet(folder, choice, max_pixels)
    return Sam(folder, choice, max_pixels=max_pixels)


def load_sam(model: Model, choice: Choice, *, max_pixels: int | None = MAX_PIXELS) -> Sam:
    """Load a model that takes prompts, or say that the one named takes none.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or of another family.
        BackendUnavailableError: What was asked for by name cannot be had here.
    """
    folder = _read(model)
    if folder.manifest.family != SAM:
        raise ModelFolderError(
            f"{model} segments ultrasound frames without prompts. Give its frames to fastseg echo, "
            "or to fastseg.load(...).segment(frames)."
        )
    return Sam(folder, choice, max_pixels=max_pixels)


def load_unet(model: Model, choice: Choice, *, max_pixels: int | None = MAX_PIXELS) -> Unet:
    """Load a network for frames, or say that the model named is none.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or of another family.
        BackendUnavailableError: What was asked for by name cannot be had here.
    """
    folder = _read(model)
    if folder.manifest.family != UNET:
        raise ModelFolderError(
            f"{model} takes prompts and is no network for ultrasound frames. Give it to "
            "fastseg segment or fastseg everything."
        )
    return _unet(folder, choice, max_pixels)


def _unet(folder: ModelFolder, choice: Choice, max_pixels: int | None) -> Unet:
    # Imported by those who use it alone: it would be a part of every start.
    from fastseg.echo.unet import Unet

    return Unet(folder, choice, max_pixels=max_pixels)


def _read(model: Model) -> ModelFolder:
    folder = artifacts.read(registry.find(model))
    if folder.manifest.family not in (SAM, UNET):
        raise ModelFolderError(
            f"{folder.path} holds a model of the family {folder.manifest.family!r}, which this "
            "version cannot run. Update fastseg."
        )
    return folder
