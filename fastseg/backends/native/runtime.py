"""The native kernels as a runtime, on the CPU: SAM's decoder and encoder, and the U-Net."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastseg.artifacts import ModelFolder, safetensors
from fastseg.artifacts.manifest import GraphFile
from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.backends.base import (
    NotServedError,
    Plan,
    Runtime,
    check_device,
    without_instructions,
)
from fastseg.backends.native.backend import NativeBackend
from fastseg.backends.native.encoder import NativeEncoder, open_kernel
from fastseg.backends.native.kernel_cache import OpenedKernels
from fastseg.backends.native.unet import NativeUnet, unsupported_reason
from fastseg.backends.native.unet import open_kernel as open_unet
from fastseg.contract import (
    MASK_SLOTS,
    MASK_VECTOR,
    UNET_GRAPH,
    Dimension,
    GraphSpec,
    TensorSpec,
)
from fastseg.environment import install_hint, versions
from fastseg.errors import BackendError, BackendUnavailableError

if TYPE_CHECKING:
    from fastseg import ops

_NAME = "native"

_ENCODER = "encoder"

_FAST = "amx-bf16"
"""The table with which encoder and U-Net are faster than on other runtimes."""

_FAST_F32 = "avx2"
"""The table with which encoder and U-Net were measured to be faster than others in FP32."""

_DECODER_GRAPHS = ("image_state", "decoder", "decoder_mask", "mask_head")
"""The graphs of the weights ``"decoder"``."""

_WHOLE_CANVAS = {"mask_decoder.hf_token.weight", "prompt_encoder.invalid_points.weight"}
"""Weights of SAM-HQ and of EfficientSAM, whose masks are computed in FP32 alone."""

_USE_AUTO = 'Use backend="auto", which finds one.'

_NAME_ANOTHER = f'Name a runtime for that too, backend="onnxruntime+{_NAME}".'

_OPENED: OpenedKernels[ops.DecoderKernel] = OpenedKernels()
"""Kernels by hash of the weights, side and table: the graphs of a model share one."""


class NativeRuntime(Runtime):
    """The kernels of ``fastseg.ops`` that run whole graphs."""

    name = _NAME
    devices = ("cpu",)
    own_layout = True
    fills_cores = False  # threads that wait soon take no core
    runs_whole_models = False

    @property
    def slow_for_images(self) -> tuple[str, ...]:
        """See ``Runtime.slow_for_images``: FP32, unless it was measured to be faster."""
        try:
            return () if _table("fp32") == _FAST_F32 else ("auto", "fp32")
        except BackendUnavailableError:  # which resolve reports
            return ()

    def require(self, device: str, precision: str) -> str:
        """See ``Runtime.require``."""
        check_device(_NAME, self.devices, device)
        tables()
        if precision not in ("auto", "fp32", "bf16"):
            raise _unknown(precision)
        if precision == "bf16" and "bf16" not in precisions():
            raise without_instructions(_NAME, "bf16")
        return "cpu"

    def resolve(
        self,
        folder: ModelFolder,
        graph_name: str,
        precision: str,
        *,
        allow_uncompared: bool = False,  # noqa: ARG002 - for engines
    ) -> tuple[GraphFile, str]:
        """See ``Runtime.resolve``: FP32, or BF16 if asked for and supported by the processor.

        Image graphs run in BF16 with AMX only: otherwise the runtimes that read the ONNX graphs are
        as fast. INT8 is for image graphs only: prompt graphs run in FP32 then.
        """
        if precision not in ("auto", "fp32", "bf16", "int8"):
            raise _unknown(precision)
        computes = precision if precision in precisions() else "fp32"
        if graph_name == _ENCODER:
            return _encoder_file(folder, precision, computes), computes
        if graph_name == UNET_GRAPH:
            return _unet_file(folder, precision, computes), computes
        if graph_name not in _DECODER_GRAPHS:
            raise NotServedError(
                f"{_NAME} answers prompts and does not run {graph_name}. {_NAME_ANOTHER}"
            )
        return _decoder_file(folder, graph_name, computes), computes

    def open_graph(
        self,
        folder: ModelFolder,
        plan: Plan,
        *,
        threads: int,
        keep_memory: bool,  # noqa: ARG002 - a call keeps no memory
    ) -> NativeBackend | NativeEncoder | NativeUnet:
        """See ``Runtime.open_graph``."""
        stored, table = plan.stored, _table(plan.precision)
        if stored.graph.name == UNET_GRAPH:
            weights = folder.manifest.weights[UNET_GRAPH]
            side = folder.manifest.frame_preprocessing.side
            unet = open_unet(folder.file(weights), weights.sha256, side, table)
            return NativeUnet(unet, stored.graph, threads=threads)
        if stored.graph.name == _ENCODER:
            weights = folder.manifest.weights[_ENCODER]
            encoder = open_kernel(folder.file(weights), weights.sha256, table)
            return NativeEncoder(encoder, stored.graph, threads=threads)
        path = folder.file(stored)
        kernel = _open_decoder(path, stored.sha256, folder.manifest.image_preprocessing, table)
        return NativeBackend(kernel, stored.graph, threads=threads)

    def version(self) -> str:
        """Return the version of fastseg, whose part it is."""
        return versions()["fastseg"]


NATIVE = NativeRuntime()


def precisions() -> tuple[str, ...]:
    """List the precisions of this processor: ``"fp32"``, and ``"bf16"`` if it has instructions.

    Raises:
        BackendUnavailableError: The native kernels do not load.
    """
    return _precisions_of(tables())


@cache
def _precisions_of(found: tuple[str, ...]) -> tuple[str, ...]:
    from fastseg import ops

    return ("fp32", "bf16") if any(map(ops.computes_in_bf16, found)) else ("fp32",)


@cache
def tables() -> tuple[str, ...]:
    """List the kernel tables of this processor, fastest first; asked for once a process.

    A test that fakes ``ops.kernel_tables`` calls ``tables.cache_clear()`` before and after.

    Raises:
        BackendUnavailableError: The native kernels do not load.
    """
    try:
        from fastseg import ops
    except ImportError as error:
        raise BackendUnavailableError(
            _NAME,
            reason=f"the native kernels do not load ({error})",
            remedy=f"{install_hint()}.",
        ) from error
    return ops.kernel_tables()


def _table(precision: str) -> str:
    """Return the fastest table that computes in a precision.

    Raises:
        BackendUnavailableError: The native kernels do not load.
    """
    found = tables()
    from fastseg import ops

    in_bf16 = precision == "bf16"
    return next(name for name in found if ops.computes_in_bf16(name) == in_bf16)


def _unknown(precision: str) -> BackendError:
    return BackendError(f"{_NAME} computes in fp32 or bf16, not in {precision!r}.")


def _decoder_file(folder: ModelFolder, graph_name: str, computes: str) -> GraphFile:
    stored = folder.manifest.weights.get("decoder")
    if stored is None:
        raise NotServedError(
            f"{folder.path} holds no weights for {_NAME}: an earlier version of fastseg wrote it. "
            "Export the model again."
        )
    graphs, grid = folder.manifest.graphs, folder.manifest.image_preprocessing.grid
    vector = _vector(graphs.get("decoder"))
    if computes == "bf16" and _WHOLE_CANVAS & safetensors.entries(folder.file(stored)).keys():
        raise NotServedError(
            f"{_NAME} runs the decoder of {folder.path} in fp32 alone. {_USE_AUTO}"
        )
    graph = _graph(graph_name, grid, computes, _maps(graphs.get(_ENCODER)), vector)
    return GraphFile(graph, stored.file, stored.sha256, computes, stored.bytes)


def _encoder_file(folder: ModelFolder, precision: str, computes: str) -> GraphFile:
    if _ENCODER not in folder.manifest.weights:
        raise NotServedError(f"{_NAME} does not know the encoder of {folder.path}. {_NAME_ANOTHER}")
    stored = folder.manifest.graphs[_ENCODER]
    if computes == "bf16":
        _require_amx("encoders", _NAME_ANOTHER)
        if len(stored.graph.outputs) > 1:
            raise NotServedError(f"{_NAME} runs the encoder of {folder.path} in fp32 alone.")
    elif precision not in ("auto", "fp32"):
        raise NotServedError(f"{_NAME} does not run encoders in {precision} here. {_NAME_ANOTHER}")
    # The weights are the graph's own, so an embedding is the same encoder's whatever ran it.
    return replace(stored, precision=computes)


def _unet_file(folder: ModelFolder, precision: str, computes: str) -> GraphFile:
    stored = folder.manifest.graphs.get(UNET_GRAPH)
    if stored is None or stored.precision != "fp32":
        raise NotServedError(f"{folder.path} holds no network in fp32 for {_NAME}. {_USE_AUTO}")
    if computes == "bf16":
        _require_amx("networks for frames", _USE_AUTO)
    elif precision not in ("auto", "fp32"):
        raise NotServedError(
            f"{_NAME} does not run networks for frames in {precision} here. {_USE_AUTO}"
        )
    weights = folder.manifest.weights.get(UNET_GRAPH)
    if weights is None:
        raise NotServedError(
            f"{folder.path} holds no weights of this network for {_NAME}. Export it again, or use "
            'backend="auto", which finds another runtime.'
        )
    path, side = folder.file(weights), folder.manifest.frame_preprocessing.side
    if reason := unsupported_reason(path, stored.graph, side):
        raise NotServedError(f"{_NAME} does not run this network: {reason}. {_USE_AUTO}")
    return replace(stored, precision=computes)


def _require_amx(networks: str, remedy: str) -> None:
    if _table("bf16") != _FAST:
        # With the other table an encoder takes twice the time of OpenVINO.
        raise NotServedError(
            f"{_NAME} runs {networks} in bf16 where the processor has AMX. {remedy}"
        )


def _open_decoder(
    path: Path, content: str, preprocessing: Preprocessing, table: str
) -> ops.DecoderKernel:
    from fastseg import ops

    side, grid = preprocessing.square, preprocessing.grid
    make = partial(ops.DecoderKernel, grid=grid, side=side, kernel_table=table)
    return _OPENED.find((content, side, grid, table), path, safetensors.read, make)


def _maps(encoder: GraphFile | None) -> tuple[TensorSpec, ...]:
    """Describe the maps of one image that the kernel takes besides its embedding."""
    further = encoder.graph.outputs[1:] if encoder else ()
    return tuple(replace(tensor, shape=(1, *tensor.shape[1:])) for tensor in further)


def _vector(decoder: GraphFile | None) -> Dimension:
    """Return the length of a mask's vector, which is another in SAM-HQ."""
    outputs = decoder.graph.outputs if decoder else ()
    return next((port.shape[2] for port in outputs if port.name == "mask_vectors"), MASK_VECTOR)


def _graph(
    name: str, grid: int, precision: str, maps: tuple[TensorSpec, ...], vector: Dimension
) -> GraphSpec:
    """Describe the graph of the kernel: the arrays between its graphs differ from the ONNX graphs'.

    Maps of the encoder go into the state of the image. SAM 2's object score, on which no mask
    depends, is not computed.
    """
    low = 4 * grid
    shared = TensorSpec("shared_image", "float32", (1, f"{precision} floats"))
    points = (
        TensorSpec("point_coords", "float32", ("prompts", "points", 2)),
        TensorSpec("point_labels", "int32", ("prompts", "points")),
    )
    answer = (
        TensorSpec("iou_predictions", "float32", ("prompts", MASK_SLOTS)),
        TensorSpec("mask_vectors", "float32", ("prompts", MASK_SLOTS, vector)),
        TensorSpec("image_tokens", "float32", ("prompts", "floats")),
    )
    graphs = (
        GraphSpec(
            "image_state",
            (TensorSpec("embedding", "float32", (1, 256, grid, grid)), *maps),
            (shared,),
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
                TensorSpec("mask_vectors", "float32", ("survivors", "masks", vector)),
                shared,
            ),
            (TensorSpec("low_res_logits", "float32", ("survivors", "masks", low, low)),),
        ),
    )
    return next(graph for graph in graphs if graph.name == name)
