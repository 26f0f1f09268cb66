"""Which runtime runs a graph: what is named is used or raises, and only ``"auto"`` chooses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastseg.artifacts import ModelFolder
from fastseg.backends import ort
from fastseg.backends.protocol import Backend
from fastseg.contract import UNET_GRAPH
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError
from fastseg.manifest import GraphFile

OPENVINO = "openvino"
"""Its module is imported when it is asked for: most starts never need it."""

BACKENDS = ("onnxruntime", OPENVINO, "tensorrt", "tensorrt-rtx")
"""Names that ``backend=`` takes beside ``"auto"``."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""Names that ``precision=`` takes beside ``"auto"``."""

_ONCE_PER_IMAGE = ("encoder", "image_state")
"""Graphs that give their memory back, 0.25 GB for ViT-B, before the decoder asks for its own."""

_IN_BF16 = ("encoder", "mask_head", UNET_GRAPH)
"""Graphs that ``precision="bf16"`` is for. The others stay in FP32: BF16 keeps 8 bits, so a click
at 1000 of 1024 pixels would move by up to 2, and masks with it, for a decoder that is hardly
faster."""

_USE_CPU = 'Use backend="onnxruntime" with device="cpu", or "auto" for both.'


@dataclass(frozen=True, slots=True)
class Plan:
    """What a graph is run by, settled before anything is loaded."""

    backend: str
    device: str
    stored: GraphFile
    """The file of the folder that holds the graph."""

    precision: str
    """What the backend computes in; for ONNX Runtime it is the file's."""


def choose(
    *, device: str = "auto", backend: str = "auto", precision: str = "auto"
) -> tuple[str, str]:
    """Settle which runtime runs and where, before anything is loaded.

    ``"auto"`` is ONNX Runtime, or OpenVINO where ONNX Runtime is not installed or BF16 is wanted.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"`` or one of ``BACKENDS``.
        precision: ``"auto"`` or one of ``PRECISIONS``.

    Returns:
        Backend and device, neither of them ``"auto"``.

    Raises:
        BackendUnavailableError: What was named is known and cannot be had here.
        BackendError: What was named is not known at all, or the backend does not compute in the
            precision.
    """
    _check_words(device, backend, precision)
    if backend.startswith("tensorrt"):
        raise BackendUnavailableError(
            backend, reason="this version of fastseg does not run it yet", remedy=_USE_CPU
        )
    if device.startswith("cuda"):
        raise BackendUnavailableError(
            device, reason="this version of fastseg runs on the CPU only", remedy=_USE_CPU
        )
    if backend == "auto":
        backend = OPENVINO if precision == "bf16" or _only_openvino() else ort.NAME
    if backend == OPENVINO:
        from fastseg.backends import openvino

        openvino.require("fp32" if precision == "auto" else precision)
    else:
        ort.import_runtime()
        if precision == "bf16":
            raise BackendError(
                "onnxruntime does not compute in bf16 on the CPU. Use "
                'backend="openvino", which does where the processor can, or precision="fp32".'
            )
    return backend, "cpu"


def plan(
    folder: ModelFolder,
    graph_name: str,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
) -> Plan:
    """Settle what runs a graph of a folder, from which file and in which precision.

    Args:
        folder: A model folder that was read.
        graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
        device: As in ``choose``.
        backend: As in ``choose``.
        precision: As in ``choose``. ``"bf16"`` is how OpenVINO runs a file, not what a file holds,
            and is for the graphs that bear it.

    Raises:
        BackendUnavailableError: The runtime or device that was named is not here.
        BackendError: A name is not known, or the precision cannot be had.
        ModelFolderError: The folder lacks the graph.
    """
    chosen, where = choose(device=device, backend=backend, precision=precision)
    if chosen == OPENVINO:
        wanted = "auto" if precision == "bf16" else precision
        stored = choose_file(folder, graph_name, precision=wanted)
        in_bf16 = precision == "bf16" and graph_name in _IN_BF16
        return Plan(chosen, where, stored, "bf16" if in_bf16 else "fp32")
    stored = choose_file(folder, graph_name, precision=precision)
    return Plan(chosen, where, stored, stored.precision)


def choose_file(folder: ModelFolder, graph_name: str, *, precision: str = "auto") -> GraphFile:
    """Settle which file of a folder holds a graph in the wanted precision.

    Args:
        folder: A model folder that was read.
        graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
        precision: ``"auto"`` or one of ``PRECISIONS``; ``"auto"`` prefers ``"fp32"``.

    Raises:
        BackendError: The precision is not known, or the folder does not have it.
        ModelFolderError: The folder does not have the graph in any precision.
    """
    _check_words("auto", "auto", precision)
    graphs = folder.manifest.graphs.values()
    found = {stored.precision: stored for stored in graphs if stored.graph.name == graph_name}
    if not found:
        raise ModelFolderError(
            f"{folder.path} has no graph {graph_name!r}. Export the model again."
        )
    if precision == "auto":
        return found.get("fp32") or next(iter(found.values()))
    if precision not in found:
        raise BackendError(
            f"{folder.path} holds {graph_name} in {', '.join(found)}, not in {precision}. "
            f'Use precision="auto", or export the model in {precision}.'
        )
    return found[precision]


def open_graph(
    folder: ModelFolder,
    graph_name: str,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    threads: int = 0,
) -> Backend:
    """Load one graph of a model folder.

    Args:
        folder: A model folder that was read (and, normally, verified).
        graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"`` or one of ``BACKENDS``.
        precision: ``"auto"`` or one of ``PRECISIONS``.
        threads: CPU cores to use, 0 for all that this process may run on.

    Raises:
        BackendUnavailableError: The runtime or device that was named is not here.
        BackendError: A name is not known, the precision cannot be had, or the runtime cannot run
            the file.
        ModelFolderError: The folder lacks the graph, or its file is not what it should be.
    """
    if threads < 0:
        raise BackendError(f"threads must be 0 (all usable cores) or more, not {threads}.")
    settled = plan(folder, graph_name, device=device, backend=backend, precision=precision)
    stored, keep_memory = settled.stored, graph_name not in _ONCE_PER_IMAGE
    path = folder.file(stored)
    if settled.backend == ort.NAME:
        return ort.OrtBackend(path, stored.graph, threads=threads, keep_memory=keep_memory)
    from fastseg.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(
        path,
        stored.graph,
        threads=threads,
        precision=settled.precision,
        keep_memory=keep_memory,
        content="" if stored.data else stored.sha256,
    )


def _check_words(device: str, backend: str, precision: str) -> None:
    if backend not in ("auto", *BACKENDS):
        raise BackendError(f"backend must be one of {('auto', *BACKENDS)}, not {backend!r}.")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise BackendError(f'device must be "auto", "cpu", "cuda" or "cuda:1", not {device!r}.')
    if precision not in ("auto", *PRECISIONS):
        raise BackendError(f"precision must be one of {('auto', *PRECISIONS)}, not {precision!r}.")


def _only_openvino() -> bool:
    """Whether OpenVINO is here and ONNX Runtime is not."""
    try:
        ort.import_runtime()
    except BackendUnavailableError:
        from fastseg.backends import openvino

        try:
            openvino.import_runtime()
        except BackendUnavailableError:
            return False
        return True
    return False
