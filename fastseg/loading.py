"""Loading of models by name or folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry
from fastseg.artifacts.manifest import GUIDED, RITM, SAM, UNET
from fastseg.errors import ModelFolderError
from fastseg.images import MAX_PIXELS
from fastseg.inference.sessions import Choice
from fastseg.sam.model import Sam

if TYPE_CHECKING:
    from fastseg.echo.unet import Unet
    from fastseg.guided.promptable import PromptModel

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
) -> PromptModel | Unet: ...


def load(
    model: Model,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> PromptModel | Unet:
    """Load a model.

    Args:
        model: The name of an embedded model (``fastseg.list_models()``) or a model folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"``, ``"onnxruntime"``, ``"openvino"``, ``"tensorrt"``, ``"tensorrt-rtx"``,
            ``"native"``, or two of them for encoder and decoder, ``"openvino+onnxruntime"``.
            ``"native"`` is fastseg's own kernels: prompt decoding, SAM's ViT encoders and the echo
            U-Net. It leaves other encoders to ``"auto"``.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``. ``"bf16"`` is
            supported by OpenVINO for the encoder on CPUs with BF16, and by the native kernels on
            CPUs with AMX (SAM's ViT encoders, echo U-Net). Prompt decoding stays in FP32 there.
            ``"fp16"`` and ``"int8"`` need graphs that ``fastseg export half`` or ``int8`` added.
        threads: Processor threads of a call; 0 means every core that this process may use. With
            fewer, calls from several threads run at once, as many as the cores suffice for:
            ``threads=1`` is for throughput, every core for the latency of one call.
        max_pixels: Largest image accepted, height x width; None lifts the limit.

    Returns:
        A ``Sam`` for a model that takes prompts, a ``Ritm`` or a ``Specialist`` for networks with
        prompts as channels and the same calls, a ``Unet`` for one that takes frames. A backend,
        device or precision that is named is used or raises; ``"auto"`` chooses for each graph, and
        ``model.runs`` is the result.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or from a newer version.
        BackendUnavailableError: A named backend, device or precision is not available here.
        BackendError: A name is not known, or ``threads`` is no integer of at least 0.
        ImageError: ``max_pixels`` is neither None nor an integer of at least 1.
    """
    folder, choice = _read(model), Choice(device, backend, precision, threads)
    if folder.manifest.family == UNET:
        return _unet(folder, choice, max_pixels)
    return _promptable(folder, choice, max_pixels)


def load_promptable(
    model: Model, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
) -> PromptModel:
    """Load a model that takes prompts, of any family.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or takes no prompts.
        BackendUnavailableError: A named backend, device or precision is not available here.
    """
    folder = _read(model)
    if folder.manifest.family == UNET:
        raise ModelFolderError(_for_frames(model))
    return _promptable(folder, choice, max_pixels)


def load_sam(model: Model, choice: Choice, *, max_pixels: int | None = MAX_PIXELS) -> Sam:
    """Load a model of SAM's family.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or of another family.
        BackendUnavailableError: A named backend, device or precision is not available here.
    """
    folder = _read(model)
    if folder.manifest.family == UNET:
        raise ModelFolderError(_for_frames(model))
    if folder.manifest.family != SAM:
        raise ModelFolderError(
            f"{model} has no image embedding, which this call needs: it is of family "
            f"{folder.manifest.family!r}. Give it to fastseg segment, everything, evaluate or "
            "cohort, or name a model of SAM's family."
        )
    return Sam(folder, choice, max_pixels=max_pixels)


def load_unet(model: Model, choice: Choice, *, max_pixels: int | None = MAX_PIXELS) -> Unet:
    """Load a network for ultrasound frames.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is incomplete, altered, or of another family.
        BackendUnavailableError: A named backend, device or precision is not available here.
    """
    folder = _read(model)
    if folder.manifest.family != UNET:
        raise ModelFolderError(
            f"{model} takes prompts and is no network for ultrasound frames. Give it to "
            "fastseg segment or fastseg everything."
        )
    return _unet(folder, choice, max_pixels)


def _for_frames(model: Model) -> str:
    return (
        f"{model} segments ultrasound frames without prompts. Give its frames to fastseg echo, "
        "or to fastseg.load(...).segment(frames)."
    )


def _promptable(folder: ModelFolder, choice: Choice, max_pixels: int | None) -> PromptModel:
    if folder.manifest.family == SAM:
        return Sam(folder, choice, max_pixels=max_pixels)
    # Imported here, because SAM models do not need it.
    from fastseg.guided.ritm import Ritm
    from fastseg.guided.specialist import Specialist

    kind = Ritm if folder.manifest.family == RITM else Specialist
    return kind(folder, choice, max_pixels=max_pixels)


def _unet(folder: ModelFolder, choice: Choice, max_pixels: int | None) -> Unet:
    # Imported here, because SAM models do not need it.
    from fastseg.echo.unet import Unet

    return Unet(folder, choice, max_pixels=max_pixels)


def _read(model: Model) -> ModelFolder:
    folder = artifacts.read(registry.find(model))
    if folder.manifest.family not in (SAM, UNET, *GUIDED):
        raise ModelFolderError(
            f"{folder.path} holds a model of the family {folder.manifest.family!r}, which this "
            "version cannot run. Update fastseg."
        )
    return folder
