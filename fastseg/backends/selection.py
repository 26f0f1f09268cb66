"""Which runtime runs a graph: what is named is used or raises, and only ``"auto"`` chooses."""

from __future__ import annotations

import re

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import SAM
from fastseg.backends.base import Backend, NotServedError, Plan
from fastseg.backends.table import FOR_PROMPTS, MODULES, ON_GPUS, runtime
from fastseg.contract import LOOK
from fastseg.cuda import driver as cuda_driver
from fastseg.errors import BackendError, BackendUnavailableError, EngineError

BACKENDS = tuple(MODULES)
"""Names that ``backend=`` takes beside ``"auto"``."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""Names that ``precision=`` takes beside ``"auto"``."""

_ONCE_PER_IMAGE = ("encoder", "image_state")
"""Graphs that give their memory back, 0.25 GB for ViT-B, before the decoder asks for its own."""


def choose(
    *, device: str = "auto", backend: str = "auto", precision: str = "auto"
) -> tuple[str, str]:
    """Settle whether a runtime can be had, whatever it is to run.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: ``"auto"`` or one of ``BACKENDS``.
        precision: ``"auto"`` or one of ``PRECISIONS``.

    Returns:
        Backend and device, neither of them ``"auto"``: of several, the first of the table that can
        run a whole model.

    Raises:
        BackendUnavailableError: What was named is known and cannot be had here.
        BackendError: What was named is not known at all, or the backend does not compute in the
            precision.
    """
    _check_words(device, backend, precision)
    errors: list[BackendError] = []
    for name in _candidates(backend, device):
        if backend == "auto" and name in FOR_PROMPTS:
            continue
        module = runtime(name)
        try:
            return name, module.require(device, precision)
        except BackendError as error:
            errors.append(error)
    raise min(errors, key=_how_telling)


def plan(
    folder: ModelFolder,
    graph_name: str,
    *,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "auto",
) -> Plan:
    """Settle what runs a graph of a folder, from which file and in which precision.

    ``"auto"`` is the first runtime of the table that can be had and runs the graph in the
    precision; each graph of a model may run on another one.

    Args:
        folder: A model folder that was read.
        graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
        device: As in ``choose``.
        backend: As in ``choose``, or two names with ``+`` between them: the first for what looks at
            the picture, the second for what answers prompts. ``"native"`` alone, which answers
            prompts, is ``"auto+native"``.
        precision: As in ``choose``: what the model as a whole is to run in. Graphs that do not
            bear it run in another one.

    Raises:
        BackendUnavailableError: The runtime or device that was named is not here.
        BackendError: A name is not known, or the precision cannot be had.
        ModelFolderError: The folder lacks the graph.
    """
    _check_words(device, backend, precision)
    if backend in FOR_PROMPTS and folder.manifest.family == SAM:
        backend = f"auto+{backend}"
    first, _, second = backend.partition("+")
    errors: list[BackendError] = []
    second_best: Plan | None = None
    names = _candidates(first if graph_name in LOOK else second or first, device)
    if precision == "int8" and graph_name in LOOK:
        # Its products of integers are slower than its float32 ones.
        names = tuple(sorted(names, key=lambda name: name == "onnxruntime"))
    for name in names:
        module = runtime(name)
        try:
            stored, computes = module.settle(folder, graph_name, precision)
            found = Plan(name, module.require(device, computes), stored, computes)
        except BackendError as error:
            errors.append(error)
            continue
        if module.OWN_LAYOUT or precision in ("auto", computes):
            return found
        second_best = second_best or found
    if second_best is None:
        raise min(errors, key=_how_telling)
    return second_best


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
        BackendError: A name is not known, the precision cannot be had, or the runtime cannot run
            the file.
        ModelFolderError: The folder lacks the graph, or its file is not what it should be.
    """
    settled = plan(folder, graph_name, device=device, backend=backend, precision=precision)
    return open_plan(folder, settled, threads=threads)


def open_plan(folder: ModelFolder, settled: Plan, *, threads: int = 0) -> Backend:
    """Load the graph of a plan; see ``open_graph``."""
    if threads < 0:
        raise BackendError(f"threads must be 0 (all usable cores) or more, not {threads}.")
    return runtime(settled.backend).open_graph(
        folder,
        settled,
        threads=threads,
        keep_memory=settled.stored.graph.name not in _ONCE_PER_IMAGE,
    )


def _candidates(backend: str, device: str) -> tuple[str, ...]:
    if backend != "auto":
        return (backend,)
    if device != "cpu" and cuda_driver.is_here():
        return tuple(MODULES)
    return tuple(name for name in MODULES if name not in ON_GPUS)


def _how_telling(error: BackendError) -> int:
    """Where every candidate refuses: rather what can be installed than what nobody can change."""
    if isinstance(error, EngineError) or getattr(error, "name", "") in ON_GPUS:
        return 3
    if isinstance(error, NotServedError):
        return 2
    return 0 if isinstance(error, BackendUnavailableError) else 1


def _check_words(device: str, backend: str, precision: str) -> None:
    known = ("auto", *BACKENDS)
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
