"""OpenVINO on the CPU, in FP32, BF16 or INT8."""

from __future__ import annotations

import ctypes
import importlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.base import (
    Plan,
    Runtime,
    check_device,
    require_integers,
    without_instructions,
)
from fastseg.backends.fork_safety import in_child
from fastseg.backends.signatures import TensorSignature, check_signature, in_one_line
from fastseg.backends.telemetry import import_without_telemetry
from fastseg.contract import Array, GraphSpec, graph_role
from fastseg.environment import install_hint, processor, thread_count, usable_cores
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError, OutputError
from fastseg.storage.cache import CacheFolder, user_cache_folder
from fastseg.storage.checksummed import read_checksummed, write_checksummed
from fastseg.storage.paths import file_length

_NAME = "openvino"

OLDEST = (2025, 0)
"""The first version that can free the memory of a graph."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""The precision outside of integer products, which an INT8 file contains itself."""

_CACHE_BYTES = 2**30

_LARGEST_CACHED = 64 * 2**20
"""A larger file is compiled at each load. For the 350 MB of ViT-B's encoder, reading and checking a
compiled copy takes as long as compiling, and writing it takes longer, with 1 GB of memory. A
decoder of 20 MB loads three times as fast from its copy."""


class OpenVinoBackend:
    """One graph in OpenVINO on the CPU.

    Args:
        path: The ``.onnx`` file.
        graph: The contract that the file must fulfil.
        threads: Cores to use, 0 for all that this process may run on.
        precision: Precision to compute in, ``"fp32"`` or ``"bf16"``, or ``"int8"`` for an INT8
            file; inputs and outputs stay as in the contract. By default OpenVINO would use BF16
            wherever the processor has it.
        keep_memory: Whether the memory of one run is kept for the next, which suits a graph that
            runs many times in a row.
        content: Hash of the file. The compiled graph is cached under it in the user's cache folder,
            unless it is large; if empty, it is not cached.

    Raises:
        BackendUnavailableError: OpenVINO is not installed, too old, or does not load; or the
            processor does not have the precision.
        ModelFolderError: The file is no graph, is truncated, or is not the graph of the contract.
        BackendError: The file is fine and this version of OpenVINO cannot run it.
    """

    memory: Literal["host"] = "host"

    def __init__(
        self,
        path: Path,
        graph: GraphSpec,
        *,
        threads: int = 0,
        precision: str = "fp32",
        keep_memory: bool = True,
        content: str = "",
    ) -> None:
        OPENVINO.require("cpu", precision)
        self.name = f"{_NAME}:cpu"
        self.graph = graph
        self._keep_memory = keep_memory
        settings = _settings(thread_count(threads), precision)
        self._compiled: Any = _Source(path, graph, content).compile(settings)
        in_child(self, OpenVinoBackend.keep_forever)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see ``Backend.run``."""
        # Held here so that a close() from another thread cannot take it away in the middle.
        compiled = self._compiled
        if compiled is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        if (reason := self.graph.mismatch(inputs)) is not None:
            raise BackendError(f"{reason}. Give what the graph's contract asks for.")
        try:
            # Each call makes its own request, 0.03 ms: callers in other threads have theirs, and
            # neither inputs nor outputs outlive the call inside the runtime. Outputs are copies.
            results = compiled.create_infer_request().infer(dict(inputs), share_inputs=True)
            outputs = {tensor.name: results[tensor.name] for tensor in self.graph.outputs}
        except Exception as error:
            raise BackendError(
                f"{self.graph.name} failed in {self.name}: {in_one_line(error)}. "
                "If memory ran out, give fewer prompts or images at a time."
            ) from error
        if not self._keep_memory:
            # Refused while another call runs, which then frees the memory at its own end.
            with suppress(RuntimeError):
                compiled.release_memory()
        return outputs

    def close(self) -> None:
        """Free the compiled graph and its memory; harmless when called again."""
        self._compiled = None

    def keep_forever(self) -> None:
        """Never free the compiled graph, not even when this is closed."""
        if self._compiled is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._compiled))


def import_runtime() -> Any:
    """Import OpenVINO, which then sends nothing.

    Raises:
        BackendUnavailableError: It is not installed, does not load, or is too old.
    """
    try:
        runtime: Any = import_without_telemetry("openvino")
    except ImportError as error:
        raise BackendUnavailableError(
            _NAME,
            reason=f"it cannot be imported ({error})",
            remedy=f"{install_hint('openvino')}.",
        ) from error
    version = str(getattr(runtime, "__version__", "unknown"))
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise BackendUnavailableError(
            _NAME,
            reason=f"its version {version} is older than {OLDEST[0]}.{OLDEST[1]}",
            remedy="Upgrade it: pip install -U openvino.",
        )
    return runtime


def precisions() -> tuple[str, ...]:
    """List the precisions of this processor: ``"fp32"``, and those that OpenVINO says are fast.

    Raises:
        BackendUnavailableError: OpenVINO is not here.
    """
    import_runtime()
    found = _capabilities()
    return ("fp32", *(name for name in ("bf16", "int8") if name.upper() in found))


class OpenVinoRuntime(Runtime):
    """OpenVINO with its CPU plugin."""

    name = _NAME
    devices = ("cpu",)

    def require(self, device: str, precision: str) -> str:
        """See ``Runtime.require``: BF16 and INT8 are for processors that have the instructions."""
        check_device(_NAME, self.devices, device)
        import_runtime()
        if precision == "auto":
            return "cpu"
        if precision not in _HINTS:
            raise _unknown(precision)
        if precision not in precisions():
            raise without_instructions(_NAME, precision)
        if precision == "int8":
            require_integers(_NAME)
        return "cpu"

    def resolve(
        self,
        folder: ModelFolder,
        graph_name: str,
        precision: str,
        *,
        allow_uncompared: bool = False,  # noqa: ARG002 - for engines
    ) -> tuple[GraphFile, str]:
        """See ``Runtime.resolve``: INT8 needs a file of its own, BF16 does not.

        In BF16 the image graphs and the mask head are computed. The other graphs stay in FP32: BF16
        keeps 8 bits, so a point at 1000 of 1024 pixels would move by up to 2, and masks with it,
        for a decoder that is hardly faster.
        """
        if precision not in ("auto", *_HINTS):
            raise _unknown(precision)
        is_image = graph_role(graph_name) == "image"
        if precision == "int8" and is_image:
            return folder.graph_file(graph_name, "int8"), "int8"
        if precision == "bf16":
            in_bf16 = is_image or graph_name == "mask_head"
            return folder.graph_file(graph_name), "bf16" if in_bf16 else "fp32"
        return folder.graph_file(graph_name, "auto" if precision == "auto" else "fp32"), "fp32"

    def open_graph(
        self, folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
    ) -> OpenVinoBackend:
        """See ``Runtime.open_graph``."""
        stored = plan.stored
        return OpenVinoBackend(
            folder.file(stored),
            stored.graph,
            threads=threads,
            precision=plan.precision,
            keep_memory=keep_memory,
            content="" if stored.data else stored.sha256,
        )

    def version(self) -> str:
        """Return the version of the installed package."""
        import_runtime()
        return metadata.version(_NAME)

    def report(self) -> dict[str, Any]:
        """Describe the runtime: its version, and whether it computes in BF16 here."""
        return {**super().report(), "bf16": "bf16" in precisions()}


OPENVINO = OpenVinoRuntime()


def _unknown(precision: str) -> BackendError:
    return BackendError(
        f"{_NAME} computes in {' or '.join(_HINTS)}, not in {precision!r}. "
        'Use precision="auto", which is fp32.'
    )


@cache
def _core() -> Any:
    """Return the runtime's core object, one for the process."""
    core = import_runtime().Core()
    if "CPU" not in core.available_devices:
        raise BackendUnavailableError(
            _NAME,
            reason="it finds no CPU plugin",
            remedy="Install it again: pip install --force-reinstall openvino.",
        )
    return core


def _capabilities() -> Sequence[str]:
    found: Sequence[str] = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def _settings(threads: int, precision: str) -> dict[str, Any]:
    # A call has ``threads``. If those are all cores, one call runs at a time, for latency; with
    # fewer, as many calls run at once as the cores suffice for, for throughput.
    calls = max(1, usable_cores() // threads)
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads * calls,
        "NUM_STREAMS": calls,
        "PERFORMANCE_HINT": "LATENCY" if calls == 1 else "THROUGHPUT",
        # Threads are counted as in ``usable_cores``, and not pinned: pinned threads of several
        # graphs would wait for the same core beside an idle one.
        "ENABLE_HYPER_THREADING": True,
        "ENABLE_CPU_PINNING": False,
    }


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, the contract that it must fulfil, and its hash."""

    path: Path
    graph: GraphSpec
    content: str

    def compile(self, settings: Mapping[str, Any]) -> Any:
        """Find the compiled graph in the cache, or compile it and cache it."""
        folder = user_cache_folder() if self._is_cached() else None
        if folder is None:
            return self._build(settings)
        cached = CacheFolder(folder / _NAME, _CACHE_BYTES, ".compiled")
        key = self._key(settings)
        if (found := cached.get(key, lambda file: _import(file, settings))) is not None:
            self._check(found)
            return found
        compiled = self._build(settings)
        # A graph that cannot be cached is compiled again at the next load, and nothing else is
        # lost.
        with suppress(OutputError, RuntimeError):
            cached.put(key, lambda file: _export(compiled, file))
        return compiled

    def _build(self, settings: Mapping[str, Any]) -> Any:
        """Compile the file."""
        # Two steps tell a damaged file from one whose operators are not supported.
        try:
            frontends = importlib.import_module("openvino.frontend").FrontEndManager()
            reader = frontends.load_by_framework("onnx")
            content = reader.load(str(self.path))
        except Exception as error:
            raise ModelFolderError(
                f"{self.path} cannot be loaded by {_version()}: {in_one_line(error)}. "
                f"Export the model again, or upgrade {_NAME}."
            ) from error
        try:
            model = reader.convert(content)
        except Exception as error:
            raise self._cannot_run(error) from error
        self._check(model)
        try:
            return _core().compile_model(model, "CPU", dict(settings))
        except Exception as error:
            raise self._cannot_run(error) from error

    def _is_cached(self) -> bool:
        length = file_length(self.path)
        return length is not None and length <= _LARGEST_CACHED and bool(self.content)

    def _check(self, model: Any) -> None:
        inputs, outputs = map(_signature, model.inputs), map(_signature, model.outputs)
        check_signature(self.path, self.graph, list(inputs), list(outputs))

    def _cannot_run(self, error: Exception) -> BackendError:
        return BackendError(
            f"{_version()} cannot run {self.path}: {in_one_line(error)}. Upgrade {_NAME}, or use "
            'backend="onnxruntime".'
        )

    def _key(self, settings: Mapping[str, Any]) -> str:
        """Hash everything that a compiled graph depends on."""
        # The instructions that the runtime found are used, whether the system names them or not.
        machine = (processor(), sorted(_capabilities()))
        parts = (self.content, _version(), machine, sorted(settings.items()))
        return sha256(repr(parts).encode()).hexdigest()


def _signature(port: Any) -> TensorSignature:
    sizes = (None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    dtype = str(port.get_element_type().to_dtype())
    return TensorSignature(frozenset(port.get_names()), dtype, tuple(sizes))


def _export(compiled: Any, file: Path) -> None:
    stream = BytesIO()
    compiled.export_model(stream)
    write_checksummed(file, stream.getvalue())


def _import(file: Path, settings: Mapping[str, Any]) -> Any:
    """Load what ``_export`` wrote. The runtime does not check it, so its hash is checked first."""
    return _core().import_model(read_checksummed(file), "CPU", dict(settings))


def _version() -> str:
    return f"{_NAME} {import_runtime().__version__}"
