"""The runtime of each graph: one that is named is used or raises, only ``"auto"`` chooses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastseg import environment
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import SAM
from fastseg.backends import table
from fastseg.backends.base import Backend, NotServedError, Plan, Runtime
from fastseg.contract import graph_role
from fastseg.errors import BackendError, BackendUnavailableError, EngineError

BACKENDS = tuple(table.RUNTIMES)
"""Names that ``backend=`` takes beside ``"auto"``."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""Names that ``precision=`` takes beside ``"auto"``."""

_ONCE_PER_IMAGE = ("encoder", "image_state")
"""Graphs that free the memory of a run, 0.25 GB for ViT-B, before the decoder takes its own."""


def choose(
    *, device: str = "auto", backend: str = "auto", precision: str = "auto"
) -> tuple[str, str]:
    """Choose a runtime and a device that are available, for no particular graph.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"`` or one of ``BACKENDS``.
        precision: ``"auto"`` or one of ``PRECISIONS``.

    Returns:
        Backend and device, neither of them ``"auto"``: the first of the table that runs whole
        models.

    Raises:
        BackendUnavailableError: A named runtime or device is known and not available here.
        BackendError: A name is not known, or the backend does not compute in the precision.
    """
    _check_words(device, backend, precision)
    refusals: list[tuple[Runtime, BackendError]] = []
    for runtime in _candidates(backend, device):
        if backend == "auto" and not runtime.runs_whole_models:
            continue
        try:
            return runtime.name, runtime.require(device, precision)
        except BackendError as error:
            refusals.append((runtime, error))
    raise _most_helpful(refusals)


def plan(
    folder: ModelFolder,
    graph_name: str,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
    allow_uncompared: bool = False,
) -> Plan:
    """Choose the runtime, the file and the precision of a graph.

    ``"auto"`` is the first runtime of the table that is available and runs the graph in the
    precision; the graphs of a model may run on different ones.

    Args:
        folder: A model folder that was read.
        graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
        device: As in ``choose``.
        backend: As in ``choose``, or two names with ``+`` between them: the first for image graphs,
            the second for prompt graphs. ``"native"`` alone is ``"auto+native"`` for SAM models.
        precision: As in ``choose``, for the model as a whole. Graphs that do not support it run in
            another one.
        allow_uncompared: Whether an engine below FP32 may run that was not compared with FP32 on
            this GPU.

    Raises:
        BackendUnavailableError: The runtime or device that was named is not here.
        BackendError: A name is not known, or the precision is not available.
        ModelFolderError: The folder lacks the graph.
    """
    _check_words(device, backend, precision)
    candidates = _candidates_for(folder, graph_name, backend, device, precision)
    refusals: list[tuple[Runtime, BackendError]] = []
    second_best: Plan | None = None
    for runtime in candidates:
        try:
            stored, computes = runtime.resolve(
                folder, graph_name, precision, allow_uncompared=allow_uncompared
            )
            resolved = runtime.require(device, computes)
        except BackendError as error:
            refusals.append((runtime, error))
            continue
        found = Plan(runtime.name, resolved, stored, computes, allow_uncompared)
        if runtime.own_layout or precision in ("auto", computes):
            return found
        second_best = second_best or found
    if second_best is None:
        raise _most_helpful(refusals)
    return second_best


def exactly(backend: str) -> str:
    """Return what ``backend=`` says to leave image graphs too to a runtime, whatever it is."""
    return f"{backend}+{backend}"


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
        device: As in ``plan``.
        backend: As in ``plan``.
        precision: As in ``plan``.
        threads: CPU cores to use, 0 for all that this process may run on.

    Raises:
        BackendUnavailableError: The runtime or device that was named is not here.
        BackendError: A name is not known, the precision is not available, or the runtime cannot
            run the file.
        ModelFolderError: The folder lacks the graph, or its file is damaged.
    """
    found = plan(folder, graph_name, device=device, backend=backend, precision=precision)
    return open_plan(folder, found, threads=threads)


def open_plan(folder: ModelFolder, plan: Plan, *, threads: int = 0) -> Backend:
    """Load the graph of a plan; see ``open_graph``."""
    if threads < 0:
        raise BackendError(f"threads must be 0 (all usable cores) or more, not {threads}.")
    return table.runtime(plan.backend).open_graph(
        folder,
        plan,
        threads=threads,
        keep_memory=plan.stored.graph.name not in _ONCE_PER_IMAGE,
    )


def _candidates_for(
    folder: ModelFolder, graph_name: str, backend: str, device: str, precision: str
) -> Iterator[Runtime]:
    """Iterate over the runtimes that ``backend`` leaves for a graph, the preferred one first."""
    is_image = graph_role(graph_name) == "image"
    first, _, second = backend.partition("+")
    partial = backend in table.RUNTIMES and not table.runtime(backend).runs_whole_models
    if partial and folder.manifest.family == SAM:
        first, second = "auto", backend
    slow = []
    for runtime in _candidates(first if is_image else second or first, device):
        if is_image and precision in runtime.slow_for_images:
            slow.append(runtime)
        else:
            yield runtime
    yield from slow


def _candidates(backend: str, device: str) -> Iterator[Runtime]:
    if backend != "auto":
        return iter([table.runtime(backend)])
    return table.runtimes(with_gpu=device != "cpu" and _has_gpu())


def _has_gpu() -> bool:
    """Tell whether there is a CUDA device; without a driver nothing of ``cuda`` is imported."""
    if not environment.has_cuda_driver():
        return False
    from fastseg.cuda import driver

    return driver.is_here()


def _most_helpful(refusals: list[tuple[Runtime, BackendError]]) -> BackendError:
    """Pick the error to raise: preferably one that the user can do something about."""

    def rank(refusal: tuple[Runtime, BackendError]) -> int:
        runtime, error = refusal
        missing = runtime.needs_gpu and getattr(error, "name", "") == runtime.name
        if isinstance(error, EngineError) or missing:
            return 3
        if isinstance(error, NotServedError):
            return 2
        return 0 if isinstance(error, BackendUnavailableError) else 1

    return min(refusals, key=rank)[1]


def _check_words(device: str, backend: str, precision: str) -> None:
    known = ("auto", *table.RUNTIMES)
    parts = backend.split("+")
    if len(parts) > 2 or not all(part in known for part in parts):
        raise BackendError(
            f'backend must be one of {known}, or two of them as in "openvino+onnxruntime", '
            f"not {backend!r}."
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise BackendError(f'device must be "auto", "cpu", "cuda" or "cuda:1", not {device!r}.')
    if precision not in ("auto", *PRECISIONS):
        raise BackendError(f"precision must be one of {('auto', *PRECISIONS)}, not {precision!r}.")
