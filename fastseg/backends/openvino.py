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
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.base import Plan, check_device, require_integers, without_instructions
from fastseg.backends.fork_safety import in_child
from fastseg.backends.signatures import Declared, check_declared, in_one_line
from fastseg.backends.stored import choose_file
from fastseg.contract import LOOK, Array, GraphSpec
from fastseg.environment import install_hint, instructions, thread_count, usable_cores
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError, OutputError
from fastseg.storage.cache import CacheFolder, user_cache_folder

NAME = "openvino"

DEVICES: tuple[str, ...] = ("cpu",)

OWN_LAYOUT = False

OLDEST = (2025, 0)
"""Older versions cannot give the memory of a graph back."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What is computed outside the products of integers, which a file of INT8 holds itself."""

_IN_BF16 = (*LOOK, "mask_head")
"""Graphs that ``precision="bf16"`` is for. The others stay in FP32: BF16 keeps 8 bits, so a click
at 1000 of 1024 pixels would move by up to 2, and masks with it, for a decoder that is hardly
faster."""

_CACHE_BYTES = 2**30

_LARGEST_KEPT = 64 * 2**20
"""A larger file is compiled each time. With the 350 MB of ViT-B's encoder, reading and checking a
compiled copy takes as long as compiling, and writing it longer, with 1 GB of memory. A decoder of
20 MB loads three times as fast."""

_DIGEST_BYTES = sha256().digest_size


class OpenVinoBackend:
    """One graph in OpenVINO on the CPU.

    Args:
        path: The ``.onnx`` file.
        graph: What the file must take and give.
        threads: Cores to use, 0 for all that this process may run on.
        precision: What to compute in, ``"fp32"`` or ``"bf16"``, or ``"int8"`` for a file that is;
            inputs and outputs stay as the contract says. Left to itself, OpenVINO takes BF16
            wherever the processor has it.
        keep_memory: Whether the memory of one run is kept for the next, as suits a graph that runs
            many times on end.
        content: Hash of the file. The compiled graph is kept under it in the user's cache folder,
            unless it is large, and found there the next time; if empty, it is not kept.

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
        require("cpu", precision)
        self.name = f"{NAME}:cpu"
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
            # A request of its own for each call, 0.03 ms: callers in other threads have theirs, and
            # neither inputs nor outputs outlive the call inside the runtime. Outputs are copies.
            results = compiled.create_infer_request().infer(dict(inputs), share_inputs=True)
            outputs = {tensor.name: results[tensor.name] for tensor in self.graph.outputs}
        except Exception as error:
            raise BackendError(
                f"{self.graph.name} failed in {self.name}: {in_one_line(error)}. "
                "If memory ran out, give fewer prompts or images at a time."
            ) from error
        if not self._keep_memory:
            # Refused while another call runs, which will then do it at its own end.
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
    """Import OpenVINO.

    Raises:
        BackendUnavailableError: It is not installed, does not load, or is too old.
    """
    try:
        runtime = importlib.import_module("openvino")
    except ImportError as error:
        raise BackendUnavailableError(
            NAME,
            reason=f"it cannot be imported ({error})",
            remedy=f"{install_hint('openvino')}.",
        ) from error
    version = str(getattr(runtime, "__version__", "unknown"))
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise BackendUnavailableError(
            NAME,
            reason=f"its version {version} is older than {OLDEST[0]}.{OLDEST[1]}",
            remedy="Upgrade it: pip install -U openvino.",
        )
    return runtime


def precisions() -> tuple[str, ...]:
    """What OpenVINO computes in on this processor: beside ``"fp32"``, what it says is fast there.

    Raises:
        BackendUnavailableError: OpenVINO is not here.
    """
    import_runtime()
    found = _capabilities()
    return ("fp32", *(name for name in ("bf16", "int8") if name.upper() in found))


def require(device: str, precision: str) -> str:
    """See ``Runtime.require``: BF16 is for processors that have it."""
    check_device(NAME, DEVICES, device)
    import_runtime()
    if precision == "auto":
        return "cpu"
    if precision not in _HINTS:
        raise _unknown(precision)
    if precision not in precisions():
        raise without_instructions(NAME, precision)
    if precision == "int8":
        require_integers(NAME)
    return "cpu"


def settle(folder: ModelFolder, graph_name: str, precision: str) -> tuple[GraphFile, str]:
    """See ``Runtime.settle``: BF16 is how a file is run, INT8 what it holds."""
    if precision not in ("auto", *_HINTS):
        raise _unknown(precision)
    if precision == "int8" and graph_name in LOOK:
        return choose_file(folder, graph_name, precision="int8"), "int8"
    held = "fp32" if precision == "int8" else precision
    stored = choose_file(folder, graph_name, precision="auto" if precision == "bf16" else held)
    return stored, "bf16" if precision == "bf16" and graph_name in _IN_BF16 else "fp32"


def open_graph(
    folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
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


def _unknown(precision: str) -> BackendError:
    return BackendError(
        f"{NAME} computes in {' or '.join(_HINTS)}, not in {precision!r}. "
        'Use precision="auto", which is fp32.'
    )


@cache
def _core() -> Any:
    """The runtime's one entrance, for the whole process."""
    core = import_runtime().Core()
    if "CPU" not in core.available_devices:
        raise BackendUnavailableError(
            NAME,
            reason="it finds no CPU plugin",
            remedy="Install it again: pip install --force-reinstall openvino.",
        )
    return core


def _capabilities() -> Sequence[str]:
    found: Sequence[str] = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def _settings(threads: int, precision: str) -> dict[str, Any]:
    # A call has ``threads``. If those are all, one call runs at a time, which is soonest done;
    # with fewer, as many calls run at once as the cores are enough for, so that most get done.
    calls = max(1, usable_cores() // threads)
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads * calls,
        "NUM_STREAMS": calls,
        "PERFORMANCE_HINT": "LATENCY" if calls == 1 else "THROUGHPUT",
        # Threads are counted as ``usable_cores`` counts, and stay free to move: pinned ones of
        # several graphs would wait for the same core beside an idle one.
        "ENABLE_HYPER_THREADING": True,
        "ENABLE_CPU_PINNING": False,
    }


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, and what it must hold."""

    path: Path
    graph: GraphSpec
    content: str

    def compile(self, settings: Mapping[str, Any]) -> Any:
        """Find the compiled graph in the cache, or compile it and keep it there."""
        folder = user_cache_folder() if self._is_kept() else None
        if folder is None:
            return self._build(settings)
        kept = CacheFolder(folder / NAME, _CACHE_BYTES, ".compiled")
        key = self._key(settings)
        if (found := kept.get(key, lambda file: _import(file, settings))) is not None:
            self._check(found)
            return found
        compiled = self._build(settings)
        # What cannot be kept is compiled again the next time, and nothing else is lost.
        with suppress(OutputError, RuntimeError):
            kept.put(key, lambda file: _export(compiled, file))
        return compiled

    def _build(self, settings: Mapping[str, Any]) -> Any:
        """Compile the file."""
        # In two steps, which tell a damaged file from one that holds what is not supported.
        try:
            frontends = importlib.import_module("openvino.frontend").FrontEndManager()
            reader = frontends.load_by_framework("onnx")
            content = reader.load(str(self.path))
        except Exception as error:
            raise ModelFolderError(
                f"{self.path} cannot be loaded by {_version()}: {in_one_line(error)}. "
                f"Export the model again, or upgrade {NAME}."
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

    def _is_kept(self) -> bool:
        small = self.path.is_file() and self.path.stat().st_size <= _LARGEST_KEPT
        return small and bool(self.content)

    def _check(self, model: Any) -> None:
        inputs, outputs = map(_declared, model.inputs), map(_declared, model.outputs)
        check_declared(self.path, self.graph, list(inputs), list(outputs))

    def _cannot_run(self, error: Exception) -> BackendError:
        return BackendError(
            f"{_version()} cannot run {self.path}: {in_one_line(error)}. Upgrade {NAME}, or use "
            'backend="onnxruntime".'
        )

    def _key(self, settings: Mapping[str, Any]) -> str:
        """A name for everything that a compiled graph depends on."""
        parts = (self.content, _version(), _processor(), sorted(settings.items()))
        return sha256(repr(parts).encode()).hexdigest()


def _declared(port: Any) -> Declared:
    sizes = (None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    dtype = str(port.get_element_type().to_dtype())
    return Declared(frozenset(port.get_names()), dtype, tuple(sizes))


def _export(compiled: Any, file: Path) -> None:
    stream = BytesIO()
    compiled.export_model(stream)
    with file.open("wb") as out:
        out.write(sha256(stream.getbuffer()).digest())
        out.write(stream.getbuffer())


def _import(file: Path, settings: Mapping[str, Any]) -> Any:
    """What ``_export`` wrote. The runtime trusts what it reads, so damage is looked for first."""
    with file.open("rb") as kept:
        digest, content = kept.read(_DIGEST_BYTES), kept.read()
    if sha256(content).digest() != digest:
        raise ValueError(f"{file} is damaged")
    return _core().import_model(content, "CPU", dict(settings))


def _version() -> str:
    return f"{NAME} {import_runtime().__version__}"


@cache
def _processor() -> str:
    """The processor's name and instructions: a compiled graph is for those that it saw."""
    seen = sorted(instructions() or _capabilities())
    return f"{_core().get_property('CPU', 'FULL_DEVICE_NAME')} {seen}"
