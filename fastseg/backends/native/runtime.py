"""The native kernels as a runtime, on the CPU: SAM's decoder, and in BF16 encoder and U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastseg.artifacts import ModelFolder, safetensors
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.base import NotServedError, Plan, check_device, without_instructions
from fastseg.backends.native.backend import NativeGraph
from fastseg.backends.native.encoder import NativeEncoder, open_kernel
from fastseg.backends.native.kernel_cache import OpenedKernels
from fastseg.backends.native.unet import NativeUnet, unsupported_reason
from fastseg.backends.native.unet import open_kernel as open_unet
from fastseg.contract import MASK_SLOTS, MASK_VECTOR, UNET_GRAPH, Array, GraphSpec, TensorSpec
from fastseg.environment import install_hint
from fastseg.errors import BackendError, BackendUnavailableError

if TYPE_CHECKING:
    from fastseg import ops

NAME = "native"

DEVICES = ("cpu",)

OWN_LAYOUT = True
"""What its graphs hand to each other is laid out as the kernel likes it."""

_ENCODER = "encoder"

_FAST = "amx-bf16"
"""The table that encoder and U-Net are worth running with."""

_SERVED = ("image_state", "decoder", "decoder_mask", "mask_head")
"""The graphs that the weights ``"decoder"`` are for."""

_ONE_FOR_ALL = 'Use backend="auto", which finds one.'

_ANOTHER = f'Name a runtime for that too, backend="onnxruntime+{NAME}".'

_OPENED: OpenedKernels[ops.DecoderKernel] = OpenedKernels()
"""By hash of the weights, side and table: the graphs of a model share one."""


class NativeBackend(NativeGraph["ops.DecoderKernel"]):
    """One graph of the decoder, run by the kernel that all of them share."""

    def search(self, inputs: Mapping[str, Array], above: float) -> dict[str, Array]:
        """See ``Searching.search``; for the graph ``"decoder"``."""
        scores, logits = self._checked(inputs).search(
            inputs["point_coords"],
            inputs["point_labels"],
            inputs["shared_image"],
            above=above,
            threads=self._threads,
        )
        return {"iou_predictions": scores, "low_res_logits": logits}

    def _answer(self, kernel: ops.DecoderKernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        threads = self._threads
        if self.graph.name == "image_state":
            return {"shared_image": kernel.image_state(inputs["embedding"], threads=threads)}
        if self.graph.name == "mask_head":
            logits = kernel.draw(
                inputs["image_tokens"],
                inputs["mask_vectors"],
                inputs["shared_image"],
                threads=threads,
            )
            return {"low_res_logits": logits}
        found = kernel.decode(
            inputs["point_coords"],
            inputs["point_labels"],
            inputs["shared_image"],
            masks=inputs.get("mask_input"),
            threads=threads,
        )
        names = [tensor.name for tensor in self.graph.outputs]
        return dict(zip(names, found, strict=True))


def precisions() -> tuple[str, ...]:
    """What the kernel computes in on this processor: ``"fp32"``, and ``"bf16"`` if it can.

    Raises:
        BackendUnavailableError: The native kernels do not load.
    """
    return ("fp32", "bf16") if "bf16" in map(_computes, _tables()) else ("fp32",)


def _tables() -> tuple[str, ...]:
    try:
        from fastseg import ops
    except ImportError as error:
        raise BackendUnavailableError(
            NAME,
            reason=f"the native kernels do not load ({error})",
            remedy=f"{install_hint()}.",
        ) from error
    return ops.decoder_tables()


def _computes(table: str) -> str:
    return "bf16" if table.endswith("bf16") else "fp32"


def require(device: str, precision: str) -> str:
    """See ``Runtime.require``."""
    check_device(NAME, DEVICES, device)
    _tables()
    if precision not in ("auto", "fp32", "bf16"):
        raise BackendError(f"{NAME} computes in fp32 or bf16, not in {precision!r}.")
    if precision == "bf16" and "bf16" not in precisions():
        raise without_instructions(NAME, "bf16")
    return "cpu"


def settle(folder: ModelFolder, graph_name: str, precision: str) -> tuple[GraphFile, str]:
    """See ``Runtime.settle``: FP32, or BF16 where it is asked for and the processor has it.

    What looks at the picture is run in BF16 with AMX or not at all: otherwise the runtimes that
    read its graph are as fast.

    INT8 is for what looks at the picture alone: prompts are answered in FP32 then.
    """
    if precision not in ("auto", "fp32", "bf16", "int8"):
        raise BackendError(f"{NAME} computes in fp32 or bf16, not in {precision!r}.")
    computes = precision if precision in precisions() else "fp32"
    if graph_name == _ENCODER:
        return _settle_encoder(folder, computes), computes
    if graph_name == UNET_GRAPH:
        return _settle_unet(folder, computes), computes
    if graph_name not in _SERVED:
        raise NotServedError(f"{NAME} answers prompts and does not run {graph_name}. {_ANOTHER}")
    stored = folder.manifest.weights.get("decoder")
    if stored is None:
        raise NotServedError(
            f"{folder.path} holds no weights for {NAME}: an earlier version of fastseg wrote it. "
            "Export the model again."
        )
    graph = _graph(graph_name, folder.manifest.image_preprocessing.side, computes)
    return GraphFile(graph, stored.file, stored.sha256, computes, stored.bytes), computes


def _settle_encoder(folder: ModelFolder, computes: str) -> GraphFile:
    if _ENCODER not in folder.manifest.weights:
        raise NotServedError(f"{NAME} does not know the encoder of {folder.path}. {_ANOTHER}")
    _require_fast("encoders", computes, _ANOTHER)
    # The weights are the graph's own, so an embedding is the same encoder's whatever ran it.
    return replace(folder.manifest.graphs[_ENCODER], precision=computes)


def _settle_unet(folder: ModelFolder, computes: str) -> GraphFile:
    stored = folder.manifest.graphs.get(UNET_GRAPH)
    if stored is None or stored.precision != "fp32":
        raise NotServedError(f"{folder.path} holds no network in fp32 for {NAME}. {_ONE_FOR_ALL}")
    _require_fast("networks for frames", computes, _ONE_FOR_ALL)
    weights = folder.manifest.weights.get(UNET_GRAPH)
    if weights is None:
        raise NotServedError(
            f"{folder.path} holds no weights of this network for {NAME}. Export it again, or use "
            'backend="auto", which finds another runtime.'
        )
    path, side = folder.file(weights), folder.manifest.frame_preprocessing.side
    if reason := unsupported_reason(path, stored.graph, side):
        raise NotServedError(f"{NAME} does not run this network: {reason}. {_ONE_FOR_ALL}")
    return replace(stored, precision=computes)


def _require_fast(what: str, computes: str, remedy: str) -> None:
    if computes != "bf16":
        raise NotServedError(f"{NAME} runs {what} in bf16 alone. {remedy}")
    if _table(computes) != _FAST:
        # With the other table an encoder takes twice the time of OpenVINO.
        raise NotServedError(f"{NAME} runs {what} where the processor has AMX. {remedy}")


def open_graph(
    folder: ModelFolder,
    plan: Plan,
    *,
    threads: int,
    keep_memory: bool,  # noqa: ARG001 - a call keeps nothing
) -> NativeBackend | NativeEncoder | NativeUnet:
    """See ``Runtime.open_graph``."""
    stored, table = plan.stored, _table(plan.precision)
    if stored.graph.name == UNET_GRAPH:
        weights = folder.manifest.weights[UNET_GRAPH]
        side = folder.manifest.frame_preprocessing.side
        unet = open_unet(folder.file(weights), weights.sha256, side)
        return NativeUnet(unet, stored.graph, threads=threads)
    if stored.graph.name == _ENCODER:
        weights = folder.manifest.weights[_ENCODER]
        encoder = open_kernel(folder.file(weights), weights.sha256, table)
        return NativeEncoder(encoder, stored.graph, threads=threads)
    path = folder.file(stored)
    kernel = _open(path, stored.sha256, folder.manifest.image_preprocessing.side, table)
    return NativeBackend(kernel, stored.graph, threads=threads)


def _open(path: Path, content: str, side: int, table: str) -> ops.DecoderKernel:
    from fastseg import ops

    make = partial(ops.DecoderKernel, grid=side // 16, side=side, table=table)
    return _OPENED.find((content, side, table), path, safetensors.read, make)


def _table(precision: str) -> str:
    """The fastest table that computes in a precision."""
    return next(name for name in _tables() if _computes(name) == precision)


def _graph(name: str, side: int, precision: str) -> GraphSpec:
    """The graph as the kernel runs it; only what passes between its graphs is its own."""
    grid = side // 16
    low = 4 * grid
    shared = TensorSpec("shared_image", "float32", (1, f"{precision} floats"))
    points = (
        TensorSpec("point_coords", "float32", ("prompts", "points", 2)),
        TensorSpec("point_labels", "int32", ("prompts", "points")),
    )
    answer = (
        TensorSpec("iou_predictions", "float32", ("prompts", MASK_SLOTS)),
        TensorSpec("mask_vectors", "float32", ("prompts", MASK_SLOTS, MASK_VECTOR)),
        TensorSpec("image_tokens", "float32", ("prompts", "floats")),
    )
    graphs = (
        GraphSpec(
            "image_state", (TensorSpec("embedding", "float32", (1, 256, grid, grid)),), (shared,)
        ),
        GraphSpec("decoder", (*points, shared), answer),
        GraphSpec(
            "decoder_mask",
            (*points, TensorSpec("mask_input", "float32", ("prompts", 1, low, low)), shared),
            answer,
        ),
        GraphSpec(
            "mask_head",
            (
                TensorSpec("image_tokens", "float32", ("survivors", "floats")),
                TensorSpec("mask_vectors", "float32", ("survivors", "masks", MASK_VECTOR)),
                shared,
            ),
            (TensorSpec("low_res_logits", "float32", ("survivors", "masks", low, low)),),
        ),
    )
    return next(graph for graph in graphs if graph.name == name)
