"""From an ONNX file to an engine, by TensorRT on this GPU or by TensorRT-RTX for named ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.backends.signatures import Declared, check_declared
from fastseg.backends.tensorrt.library import PORTABLE, Flavour, runtime
from fastseg.backends.tensorrt.logger import Log, Watch, log_of
from fastseg.backends.tensorrt.optimization_profiles import profiles_of, shapes
from fastseg.contract import GraphSpec
from fastseg.errors import EngineError, ModelFolderError, OutputError
from fastseg.storage.cache import CacheFolder, user_cache_folder
from fastseg.storage.checksummed import read_checksummed, write_checksummed

Progress = Callable[[str], None]

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32"}
_TIMINGS_BYTES = 256 * 2**20

_DAMAGED = "MODEL_DESERIALIZE_FAILED"
"""The parser's name for a file that is not ONNX at all."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built."""

    flavour: Flavour
    targets: tuple[str, ...] = ()
    """Architectures to build for ahead of time; ``("portable",)`` is the runtime's own choice."""

    timing_key: str = ""
    """Names what timings of tactics hold for, GPU and driver; if empty, none are kept."""


def build_engine(
    path: Path, graph: GraphSpec, order: Order, progress: Progress = lambda _: None
) -> bytes:
    """Build an engine in the precision that the ONNX file is written in.

    Args:
        path: The ``.onnx`` file; outside weights are found beside it.
        graph: What the file must take and give.
        order: By which runtime, and for what.
        progress: Is told which phase of the build begins.

    Raises:
        BackendUnavailableError: The runtime is not here.
        ModelFolderError: The file is damaged, or is not the graph of the contract.
        EngineError: The runtime rejects the graph or cannot build it; its message is shown.
        KeyboardInterrupt: The user interrupted the build.
    """
    module = runtime(order.flavour)
    log = log_of(module)
    log.forget()
    builder = module.Builder(log.logger)
    if not builder:
        raise EngineError(f"{_title(order)} cannot start: {log.errors or 'it does not say why'}.")
    network = builder.create_network(_strongly_typed(module))
    _parse(module, network, log, path, order)
    check_declared(path, graph, *_declared(network))
    config = builder.create_builder_config()
    # Full precision means full precision: TensorFloat-32 keeps ten bits.
    if hasattr(module.BuilderFlag, "TF32"):
        config.clear_flag(module.BuilderFlag.TF32)
    _set_targets(module, config, order)
    _add_profiles(builder, config, graph)
    timings = _Timings(order)
    timings.load(config)
    with Watch(module, config, progress):
        built = builder.build_serialized_network(network, config)
    if built is None:
        raise EngineError(
            f"{_title(order)} cannot build {path}: {log.errors or 'it does not say why'}."
        )
    timings.save(config)
    return bytes(built)


def _title(order: Order) -> str:
    return f"{order.flavour.name} {runtime(order.flavour).__version__}"


def _strongly_typed(module: Any) -> int:
    """Types are those of the file. From TensorRT 11 on there is no other way, and no flag."""
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(module: Any, network: Any, log: Log, path: Path, order: Order) -> None:
    parser = module.OnnxParser(network, log.logger)
    if parser.parse_from_file(str(path)):
        return
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    said = "; ".join(_parser_error(error) for error in errors) or log.errors or "it is unreadable"
    if not path.is_file() or any(error.code().name == _DAMAGED for error in errors):
        raise ModelFolderError(
            f"{path} cannot be read by {_title(order)}: {said}. Export the model again."
        )
    raise EngineError(
        f"{_title(order)} rejects {path}: {said}. Export the model again, upgrade "
        f'{order.flavour.name}, or use backend="onnxruntime".'
    )


def _parser_error(error: Any) -> str:
    text = " ".join(str(error.desc()).split()).rstrip(".")
    code = error.code().name
    where = " ".join(filter(None, (error.node_operator(), error.node_name())))
    return f"{text} ({code}, in {where})" if where else f"{text} ({code})"


def _declared(network: Any) -> tuple[list[Declared], list[Declared]]:
    def of(tensor: Any) -> Declared:
        shape = tuple(None if size < 0 else size for size in tensor.shape)
        name = tensor.dtype.name
        return Declared(frozenset({tensor.name}), _DTYPES.get(name, name), shape)

    inputs = [of(network.get_input(number)) for number in range(network.num_inputs)]
    return inputs, [of(network.get_output(number)) for number in range(network.num_outputs)]


def _set_targets(module: Any, config: Any, order: Order) -> None:
    named = [target for target in order.targets if target != PORTABLE]
    if named:
        config.num_compute_capabilities = len(named)
    for number, target in enumerate(named):
        capability = getattr(module.ComputeCapability, target.upper())
        if not config.set_compute_capability(capability, number):
            raise EngineError(f"{_title(order)} does not build for {target}.")


def _add_profiles(builder: Any, config: Any, graph: GraphSpec) -> None:
    for ranges in profiles_of(graph):
        profile = builder.create_optimization_profile()
        for tensor in graph.inputs:
            if any(isinstance(size, str) for size in tensor.shape):
                profile.set_shape(tensor.name, *shapes(tensor, ranges))
        config.add_optimization_profile(profile)


class _Timings:
    """How long tactics took on this GPU, kept so that the next build need not time them again.

    TensorRT-RTX times nothing ahead of time, and its functions for it do nothing.
    """

    def __init__(self, order: Order) -> None:
        folder = user_cache_folder() if order.timing_key and not order.targets else None
        self._kept = folder and CacheFolder(folder / "timings", _TIMINGS_BYTES, ".timings")
        self._key = sha256(f"{_title(order)} {order.timing_key}".encode()).hexdigest()

    def load(self, config: Any) -> None:
        if self._kept:
            known = self._kept.get(self._key, read_checksummed) or b""
            config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)

    def save(self, config: Any) -> None:
        if self._kept:
            content = bytes(config.get_timing_cache().serialize())
            # What cannot be kept is timed again the next time, and nothing else is lost.
            with suppress(OutputError):
                self._kept.put(self._key, lambda path: write_checksummed(path, content))
