"""Which runtime runs a graph: what is named is used or raises, and only ``"auto"`` chooses."""

from __future__ import annotations

import re

from fastseg.artifacts import ModelFolder
from fastseg.backends.ort import OrtBackend, import_runtime
from fastseg.backends.protocol import Backend
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError
from fastseg.manifest import GraphFile

BACKENDS = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")
"""Names that ``backend=`` takes beside ``"auto"``."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""Names that ``precision=`` takes beside ``"auto"``."""

_ONCE_PER_IMAGE = ("encoder", "image_state")
"""Graphs that give their memory back, 0.25 GB for ViT-B, before the decoder asks for its own."""

_USE_CPU = 'Use backend="onnxruntime" with device="cpu", or "auto" for both.'


def choose(*, device: str = "auto", backend: str = "auto") -> tuple[str, str]:
    """Settle which runtime runs and where, before anything is loaded.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"`` or one of ``BACKENDS``.

    Returns:
        Backend and device, neither of them ``"auto"``.

    Raises:
        BackendUnavailableError: What was named is known and cannot be had here.
        BackendError: What was named is not known at all.
    """
    if backend not in ("auto", *BACKENDS):
        raise BackendError(f"backend must be one of {('auto', *BACKENDS)}, not {backend!r}.")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise BackendError(f'device must be "auto", "cpu", "cuda" or "cuda:1", not {device!r}.')
    if backend not in ("auto", "onnxruntime"):
        raise BackendUnavailableError(
            backend, reason="this version of fastseg does not run it yet", remedy=_USE_CPU
        )
    if device.startswith("cuda"):
        raise BackendUnavailableError(
            device, reason="this version of fastseg runs on the CPU only", remedy=_USE_CPU
        )
    import_runtime()
    return "onnxruntime", "cpu"


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
    if precision not in ("auto", *PRECISIONS):
        raise BackendError(f"precision must be one of {('auto', *PRECISIONS)}, not {precision!r}.")
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
        BackendError: A name is not known, the precision is not in the folder, or the runtime
            cannot run the file.
        ModelFolderError: The folder lacks the graph, or its file is not what it should be.
    """
    if threads < 0:
        raise BackendError(f"threads must be 0 (all usable cores) or more, not {threads}.")
    choose(device=device, backend=backend)
    stored = choose_file(folder, graph_name, precision=precision)
    return OrtBackend(
        folder.file(stored),
        stored.graph,
        threads=threads,
        keep_memory=graph_name not in _ONCE_PER_IMAGE,
    )
