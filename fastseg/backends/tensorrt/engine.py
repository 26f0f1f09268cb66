"""A deserialised engine and its execution contexts: every call to TensorRT while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Protocol

from fastseg.backends.signatures import TensorSignature
from fastseg.backends.tensorrt.engine_key import Gpu
from fastseg.backends.tensorrt.library import DTYPES, TENSORRT_RTX, Flavour, runtime
from fastseg.backends.tensorrt.logger import Log, log_of
from fastseg.cuda.device import Stream
from fastseg.errors import BackendError, DeviceMemoryError, EngineError, OutputError
from fastseg.storage.cache import CacheFolder, user_cache_folder
from fastseg.storage.checksummed import read_checksummed, write_checksummed

Shape = tuple[int, ...]

_OUT_OF_MEMORY = ("out of memory", "outofmemory", "memoryallocation", "error code 2:")
_KERNELS_BYTES = 2**30


class Context(Protocol):
    """An execution context, which one call at a time uses."""

    def prepare(self, profile: int, shapes: Mapping[str, Shape]) -> int:
        """Set the shapes of the inputs.

        Returns:
            Bytes of device memory that the engine needs for its work on these shapes.
        """

    def bind(self, addresses: Mapping[str, int], scratch: tuple[int, int]) -> None:
        """Set the addresses of inputs and outputs, and address and length of working memory."""

    def enqueue(self) -> None:
        """Enqueue the work in the stream of the context.

        Raises:
            DeviceMemoryError: The runtime itself found too little memory.
            BackendError: It failed otherwise.
        """


class Engine(Protocol):
    """A network on a device."""

    @property
    def inputs(self) -> Sequence[TensorSignature]:
        """The inputs that it declares."""

    @property
    def outputs(self) -> Sequence[TensorSignature]:
        """The outputs that it declares."""

    @property
    def records(self) -> bool:
        """True if its work may be captured as a CUDA graph."""

    def context(self, stream: Stream) -> Context:
        """Make an execution context for a stream."""

    def keep_kernels(self) -> None:
        """Cache the kernels that were compiled while it ran, for the next process."""


def load_engine(content: bytes, flavour: Flavour, gpu: Gpu, title: str) -> Engine:
    """Deserialise an engine in the current context of this thread.

    Args:
        content: Its bytes, whose hash was compared before.
        flavour: The runtime.
        gpu: The GPU of this machine.
        title: Name of the engine in errors.

    Raises:
        EngineError: The runtime refuses it; the message says why.
        DeviceMemoryError: The device has no room for its weights.
    """
    module = runtime(flavour)
    log = log_of(module)
    log.clear()
    reader = module.Runtime(log.logger)
    _check_validity(module, reader, log, content, title)
    engine = reader.deserialize_cuda_engine(content)
    if engine is None:
        reason = log.errors or "it gives no reason"
        _raise_if_out_of_memory(reason, title)
        raise EngineError(
            f"{flavour.name} {module.__version__} refuses {title}: {reason}. Build it again: "
            "fastseg build."
        )
    return _Loaded(module, flavour, log, reader, engine, _Kernels(flavour, gpu))


def _check_validity(module: Any, reader: Any, log: Log, content: bytes, title: str) -> None:
    """Ask TensorRT-RTX whether an engine suits this machine, which its header tells."""
    if not hasattr(reader, "get_engine_validity"):
        return
    head = content[: reader.engine_header_size]
    validity, diagnostics = reader.get_engine_validity(head)
    if validity != module.EngineValidity.INVALID:
        return
    reasons = [
        name.replace("_", " ").lower()
        for name, member in module.EngineInvalidityDiagnostics.__members__.items()
        if int(diagnostics) & int(member)
    ]
    reason = ", ".join(reasons) or log.errors or "it cannot be read"
    raise EngineError(
        f"{title} does not suit this machine: {reason}. Build it again here: fastseg build."
    )


class _Loaded:
    """An engine of TensorRT or TensorRT-RTX."""

    def __init__(
        self, module: Any, flavour: Flavour, log: Log, reader: Any, engine: Any, kernels: _Kernels
    ) -> None:
        self._module, self._log, self._engine = module, log, engine
        self._reader = reader  # must live as long as what it read
        self._kernels = kernels
        # TensorRT-RTX captures graphs itself, in step with the kernels that it compiles.
        self.records = flavour is not TENSORRT_RTX
        self._config: Any = None
        if not self.records:
            self._config = engine.create_runtime_config()
            self._config.set_execution_context_allocation_strategy(self._user_managed)
            self._config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            kernels.load(self._config)
        signatures = [_signature(engine, number) for number in range(engine.num_io_tensors)]
        self.inputs = [one for is_input, one in signatures if is_input]
        self.outputs = [one for is_input, one in signatures if not is_input]

    @property
    def _user_managed(self) -> Any:
        return self._module.ExecutionContextAllocationStrategy.USER_MANAGED

    def context(self, stream: Stream) -> Context:
        """Make an execution context whose working memory is allocated here."""
        self._log.clear()
        # Sized for the call and not for the largest profile, which for a decoder is 20 GB.
        strategy = self._user_managed if self._config is None else self._config
        made = self._engine.create_execution_context(strategy)
        if made is None:
            reason = self._log.errors or "it gives no reason"
            _raise_if_out_of_memory(reason, "an execution context")
            raise BackendError(f"no execution context can be made: {reason}. Load the model again.")
        return _LoadedContext(made, stream, self._log)

    def keep_kernels(self) -> None:
        """Cache the kernels that TensorRT-RTX compiled for this GPU."""
        self._kernels.save()


def _signature(engine: Any, number: int) -> tuple[bool, TensorSignature]:
    name = engine.get_tensor_name(number)
    shape = tuple(None if size < 0 else size for size in engine.get_tensor_shape(name))
    kind = engine.get_tensor_dtype(name).name
    return engine.get_tensor_mode(name).name == "INPUT", TensorSignature(
        frozenset({name}), DTYPES.get(kind, kind), shape
    )


class _LoadedContext:
    """An execution context and its stream."""

    def __init__(self, context: Any, stream: Stream, log: Log) -> None:
        self._context, self._stream, self._log = context, stream, log
        self._profile = 0

    def prepare(self, profile: int, shapes: Mapping[str, Shape]) -> int:
        """Set the shapes of the inputs."""
        handle = self._stream.handle
        if profile != self._profile:
            self._require(
                self._context.set_optimization_profile_async(profile, handle), "the profile"
            )
            self._profile = profile
        for name, shape in shapes.items():
            self._require(
                self._context.set_input_shape(name, shape), f"the shape {shape} of {name}"
            )
        return int(self._context.update_device_memory_size_for_shapes())

    def bind(self, addresses: Mapping[str, int], scratch: tuple[int, int]) -> None:
        """Set the addresses."""
        self._context.set_device_memory(*scratch)
        for name, address in addresses.items():
            self._require(self._context.set_tensor_address(name, address), f"the address of {name}")

    def enqueue(self) -> None:
        """Enqueue the work in the stream."""
        self._log.clear()
        self._require(self._context.execute_async_v3(self._stream.handle), "the call")

    def _require(self, accepted: bool, step: str) -> None:
        if not accepted:
            reason = self._log.errors or "it gives no reason"
            _raise_if_out_of_memory(reason, step)
            raise BackendError(f"{step} is refused: {reason}")


def _raise_if_out_of_memory(reason: str, step: str) -> None:
    if any(sign in reason.lower() for sign in _OUT_OF_MEMORY):
        raise DeviceMemoryError(f"the device has no memory left for {step}: {reason}.")


class _Kernels:
    """The cache of the kernels that TensorRT-RTX compiles on a GPU while it runs."""

    def __init__(self, flavour: Flavour, gpu: Gpu) -> None:
        folder = user_cache_folder()
        self._folder = folder and CacheFolder(folder / "kernels", _KERNELS_BYTES, ".kernels")
        name = f"{flavour.name} {runtime(flavour).__version__} {gpu}"
        self._key = sha256(name.encode()).hexdigest()
        self._cache: Any = None

    def load(self, config: Any) -> None:
        """Load the kernels of earlier processes into a runtime configuration."""
        self._cache = config.create_runtime_cache()
        if self._folder and (known := self._folder.get(self._key, read_checksummed)):
            self._cache.deserialize(known)
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Store them. Kernels that cannot be stored are compiled again; nothing else is lost."""
        if self._cache is None or not self._folder:
            return
        content = bytes(self._cache.serialize())
        with suppress(OutputError):
            self._folder.put(self._key, lambda path: write_checksummed(path, content))
