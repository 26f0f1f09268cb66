"""ONNX Runtime's CUDA provider: checks that it works, and that no graph silently leaves it."""

from __future__ import annotations

import contextlib
import ctypes
import io
from functools import cache
from pathlib import Path
from typing import Any

from fastseg import environment
from fastseg.backends.signatures import in_one_line
from fastseg.environment import install_hint
from fastseg.errors import BackendError, BackendUnavailableError

PROVIDER = "CUDAExecutionProvider"

_LIBRARY = "libonnxruntime_providers_cuda.so"

_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_TELL_WHERE = "session.record_ep_graph_assignment_info"

_REFUSED = "fallback to CPU EP has been explicitly disabled"
"""The runtime's message when a part of a graph would run on the processor."""

_OF_SHAPES = frozenset(
    {
        *("Shape", "Size", "Gather", "GatherND", "Slice", "Concat", "Unsqueeze", "Squeeze"),
        *("Range", "ConstantOfShape", "Expand", "Reshape", "Identity", "Cast", "Equal", "Where"),
        *("Add", "Sub", "Mul", "Div", "Min", "Max", "ReduceProd"),
    }
)
"""Operators that compute sizes. ONNX Runtime runs them on the processor, where sizes are read; the
computation of a network has others among its operators."""

_IDENTITY = bytes.fromhex(
    "08083a3c0a120a017812017922084964656e746974793a001204746573745a0f"
    "0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a020801"
    "42040a00100d"
)
"""The smallest graph: y = x, one number. Running it tells whether the device can be used."""


def require(runtime: Any, device: str) -> str:
    """Check that a CUDA device can be used, and resolve its number.

    Args:
        runtime: The module ``onnxruntime``.
        device: ``"cuda"`` or ``"cuda:1"``.

    Returns:
        ``"cuda:0"``, ``"cuda:1"``.

    Raises:
        BackendUnavailableError: The package is the one without CUDA, there is no such device, or a
            library of CUDA is missing; the message names it.
    """
    from fastseg.cuda import driver

    index = driver.require_device(device).index
    if PROVIDER not in runtime.get_available_providers():
        raise BackendUnavailableError(
            device,
            reason=f"the installed onnxruntime {runtime.__version__} is built without CUDA",
            remedy=f"Uninstall it: pip uninstall onnxruntime. {install_hint('gpu')}.",
        )
    if not _works(runtime, index):
        raise BackendUnavailableError(
            device,
            reason=f"onnxruntime {runtime.__version__} cannot use it ({_missing_library(runtime)})",
            remedy="Install the CUDA and cuDNN that this version is built for, for example by "
            'pip install "onnxruntime-gpu[cuda,cudnn]", or use device="cpu".',
        )
    return f"cuda:{index}"


def first_device(runtime: Any) -> str:
    """Return ``"cuda:0"`` where it can be used, else ``"cpu"``."""
    if not environment.has_cuda_driver() or PROVIDER not in runtime.get_available_providers():
        return "cpu"
    try:
        return require(runtime, "cuda")
    except BackendUnavailableError:
        return "cpu"


def open_session(runtime: Any, path: Path, options: Any, index: int) -> Any:
    """Open a graph on a device, except for the computation of sizes.

    Args:
        runtime: The module ``onnxruntime``.
        path: The ``.onnx`` file.
        options: Session options; changed.
        index: Number of the device.

    Raises:
        BackendError: Some of the graph would run on the processor; the message names operators.
        Exception: Whatever the runtime raises for a file that it cannot load.
    """
    options.add_session_config_entry(_NO_FALLBACK, "1")
    try:
        session = _session(runtime, str(path), options, index)
    except Exception as error:
        if _REFUSED not in str(error):
            raise
        # The runtime computes sizes on the processor by design; so check that nothing else is.
        options.add_session_config_entry(_NO_FALLBACK, "0")
        options.add_session_config_entry(_TELL_WHERE, "1")
        session = _session(runtime, str(path), options, index)
        _check_cpu_operators(runtime, session, path)
    if session.get_providers()[:1] != [PROVIDER]:
        raise BackendError(
            f"onnxruntime left cuda:{index} for {session.get_providers()[0]} while it opened "
            f'{path}. Use device="cpu" if that is wanted.'
        )
    return session


def _check_cpu_operators(runtime: Any, session: Any, path: Path) -> None:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise BackendError(
            f"onnxruntime {runtime.__version__} would run some of {path} on the processor and "
            "cannot tell what. Upgrade onnxruntime-gpu."
        )
    left = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
    }
    if heavy := sorted(left - _OF_SHAPES):
        raise BackendError(
            f"onnxruntime {runtime.__version__} has no CUDA kernel for {', '.join(heavy)} in "
            f"{path} and would run them on the processor. Upgrade onnxruntime-gpu, or use "
            'device="cpu".'
        )


@cache
def _works(runtime: Any, index: int) -> bool:
    """Tell whether a graph stays on the device: for a missing library ONNX Runtime only prints."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    preload = getattr(runtime, "preload_dlls", None)
    try:
        if preload is not None:
            # Loads the libraries of CUDA from Python packages, and prints those that are missing.
            with contextlib.redirect_stdout(io.StringIO()):
                preload()
        return bool(_session(runtime, _IDENTITY, options, index).get_providers()[0] == PROVIDER)
    except Exception:  # whatever it is, the device cannot be used
        return False


def _session(runtime: Any, graph: str | bytes, options: Any, index: int) -> Any:
    # TensorFloat-32 keeps 10 bits of 23, so FP32 would not be FP32.
    settings = {"device_id": index, "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
    return runtime.InferenceSession(graph, options, providers=[(PROVIDER, settings)])


def _missing_library(runtime: Any) -> str:
    """Name the library that the loader does not find, in the loader's words."""
    path = Path(runtime.__file__).parent / "capi" / _LIBRARY
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return in_one_line(error)
    return "it does not say why"
