"""ONNX Runtime, on the CPU or on a CUDA device."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.base import Plan, Runtime, check_device, require_integers
from fastseg.backends.fork_safety import in_child
from fastseg.backends.onnxruntime import cuda_provider
from fastseg.backends.signatures import TensorSignature, check_signature, in_one_line
from fastseg.backends.telemetry import import_without_telemetry
from fastseg.contract import Array, GraphSpec, graph_role
from fastseg.environment import install_hint, thread_count
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError

_NAME = "onnxruntime"

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int32)": "int32"}

_FATAL = 4
"""Log level at which the runtime is silent: errors are raised, and not printed as well."""

_FREE_ARENA = "memory.enable_memory_arena_shrinkage"
"""Run option that frees the runtime's own pool after a run. Running without the pool takes more
memory, because the C library keeps the pieces, and twice the processor time, for new pages."""


class OrtBackend:
    """One graph in ONNX Runtime, on the CPU or on a CUDA device.

    Args:
        path: The ``.onnx`` file.
        graph: The contract that the file must fulfil.
        threads: Cores to use, 0 for all that this process may run on.
        keep_memory: Whether the memory of one run is kept for the next, which suits a graph that
            runs many times in a row.
        device: ``"cpu"``, or ``"cuda:0"`` as ``require`` returned it.
        spinning: Whether threads wait for each other at work; it is quicker, unless other work has
            the cores too.

    Raises:
        BackendUnavailableError: ONNX Runtime is not installed or does not load.
        ModelFolderError: The file is no graph, is truncated, or is not the graph of the contract.
        BackendError: The file is fine and this version of ONNX Runtime cannot run it, or not all of
            it on the device.
    """

    memory: Literal["host"] = "host"

    def __init__(
        self,
        path: Path,
        graph: GraphSpec,
        *,
        threads: int = 0,
        keep_memory: bool = True,
        device: str = "cpu",
        spinning: bool = True,
    ) -> None:
        runtime = import_runtime()
        self.name = f"{_NAME}:{device}"
        self.graph = graph
        self._outputs = [tensor.name for tensor in graph.outputs]
        self._session: Any = _open(runtime, path, thread_count(threads), device, spinning=spinning)
        self._run_options: Any = runtime.RunOptions()
        if not keep_memory:
            arena = "cpu:0" if device == "cpu" else device.replace("cuda", "gpu")
            self._run_options.add_run_config_entry(_FREE_ARENA, arena)
        check_signature(
            path,
            graph,
            [_signature(node) for node in self._session.get_inputs()],
            [_signature(node) for node in self._session.get_outputs()],
        )
        in_child(self, OrtBackend.keep_forever)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see ``Backend.run``."""
        # Held here so that a close() from another thread cannot take it away in the middle.
        session = self._session
        if session is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        if (reason := self.graph.mismatch(inputs)) is not None:
            raise BackendError(f"{reason}. Give what the graph's contract asks for.")
        try:
            arrays = session.run(self._outputs, dict(inputs), self._run_options)
        except Exception as error:
            raise BackendError(
                f"{self.graph.name} failed in {self.name}: {in_one_line(error)}. "
                "If memory ran out, give fewer prompts or images at a time."
            ) from error
        return dict(zip(self._outputs, arrays, strict=True))

    def stop(self) -> None:
        """End a run in another thread with a ``BackendError``, and every later one."""
        self._run_options.terminate = True

    def close(self) -> None:
        """Free the session and its memory; harmless when called again."""
        self._session = None

    def keep_forever(self) -> None:
        """Never free the session, not even when this is closed."""
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))


class OnnxRuntime(Runtime):
    """ONNX Runtime with its CPU or CUDA execution provider."""

    name = _NAME
    devices = ("cuda", "cpu")
    slow_for_images = ("int8",)  # its integer products are slower than its float32 ones

    def require(self, device: str, precision: str) -> str:
        """See ``Runtime.require``: every precision but BF16, which its CPU provider lacks."""
        check_device(_NAME, self.devices, device)
        runtime = import_runtime()
        if precision == "bf16":
            raise _no_bf16()
        if precision == "int8":
            require_integers(_NAME)
        if device == "auto":
            return cuda_provider.first_device(runtime)
        return "cpu" if device == "cpu" else cuda_provider.require(runtime, device)

    def resolve(
        self,
        folder: ModelFolder,
        graph_name: str,
        precision: str,
        *,
        allow_uncompared: bool = False,  # noqa: ARG002 - for engines
    ) -> tuple[GraphFile, str]:
        """See ``Runtime.resolve``: the file of the precision; FP32 for prompt graphs in INT8."""
        is_image = graph_role(graph_name) == "image"
        if precision == "bf16" and is_image:
            raise _no_bf16()
        if precision in ("bf16", "int8") and not is_image:
            precision = "fp32"
        stored = folder.graph_file(graph_name, precision)
        return stored, stored.precision

    def open_graph(
        self, folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
    ) -> OrtBackend:
        """See ``Runtime.open_graph``."""
        path, graph = folder.file(plan.stored), plan.stored.graph
        return OrtBackend(path, graph, threads=threads, keep_memory=keep_memory, device=plan.device)

    def version(self) -> str:
        """Return the version of the installed package."""
        return str(import_runtime().__version__)


ONNXRUNTIME = OnnxRuntime()


def import_runtime() -> Any:
    """Import ONNX Runtime, which then sends nothing.

    Raises:
        BackendUnavailableError: It is not installed, or it does not load.
    """
    try:
        return import_without_telemetry("onnxruntime")
    except ImportError as error:
        raise BackendUnavailableError(
            _NAME,
            reason=f"it cannot be imported ({error})",
            remedy=f"{install_hint('cpu')}.",
        ) from error


def _no_bf16() -> BackendError:
    return BackendError(
        "onnxruntime does not compute in bf16. Use "
        'backend="openvino", which does where the processor can, or precision="fp32".'
    )


def _open(
    runtime: Any, path: Path, threads: int, device: str = "cpu", *, spinning: bool = True
) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL
    # Each graph has threads of its own. By default those of the graph that has just run spin while
    # the next graph and the native kernels already need the cores: decoder, mask head and
    # postprocessing of a batch take 1.3 times as long on two cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    # A memory pattern of each shape is allocated beside the memory itself: 0.3 GB more in SAM's
    # decoder, and no faster.
    options.enable_mem_pattern = False
    try:
        if device != "cpu":
            return cuda_provider.open_session(runtime, path, options, int(device.partition(":")[2]))
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except BackendError:
        raise
    except Exception as error:
        if type(error).__name__ == "NotImplemented":
            raise BackendError(
                f"{_NAME} {runtime.__version__} cannot run {path}: {in_one_line(error)}. "
                f"Upgrade {_NAME}."
            ) from error
        raise ModelFolderError(
            f"{path} cannot be loaded by {_NAME} {runtime.__version__}: {in_one_line(error)}. "
            f"Export the model again, or upgrade {_NAME}."
        ) from error


def _signature(node: Any) -> TensorSignature:
    return TensorSignature(
        frozenset({node.name}), _DTYPES.get(node.type, node.type), tuple(node.shape)
    )
