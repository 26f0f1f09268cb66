"""The build of an engine from an ONNX file, for this GPU or, by TensorRT-RTX, for named ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.backends.signatures import TensorSignature, check_signature
from fastseg.backends.tensorrt.library import DTYPES, PORTABLE, Flavour, runtime
from fastseg.backends.tensorrt.logger import BuildMonitor, Log, log_of
from fastseg.backends.tensorrt.optimization_profiles import profiles_of, shapes
from fastseg.contract import GraphSpec
from fastseg.errors import EngineError, ModelFolderError, OutputError
from fastseg.storage.cache import CacheFolder, user_cache_folder
from fastseg.storage.checksummed import read_checksummed, write_checksummed
from fastseg.storage.paths import file_length

Progress = Callable[[str], None]

_TIMINGS_BYTES = 256 * 2**20

_DAMAGED = "MODEL_DESERIALIZE_FAILED"
"""The parser's name for a file that is not ONNX at all."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The runtime and the GPUs that an engine is built for."""

    flavour: Flavour
    targets: tuple[str, ...] = ()
    """Architectures to build for ahead of time; ``("portable",)`` is the runtime's own choice."""

    timing_key: str = ""
    """GPU and driver that timings of tactics hold for; if empty, none are cached."""


def build_engine(
    path: Path, graph: GraphSpec, options: BuildOptions, progress: Progress = lambda _: None
) -> bytes:
    """Build an engine in the precision that the ONNX file is written in.

    Args:
        path: The ``.onnx`` file; outside weights are found beside it.
        graph: The contract that the file must fulfil.
        options: The runtime, and the GPUs to build for.
        progress: Called with the name of each phase of the build as it begins.

    Raises:
        BackendUnavailableError: The runtime is not here.
        ModelFolderError: The file is damaged, or is not the graph of the contract.
        EngineError: The runtime rejects the graph or cannot build it; its message is shown.
        KeyboardInterrupt: The user interrupted the build.
    """
    module = runtime(options.flavour)
    log = log_of(module)
    log.clear()
    builder = module.Builder(log.logger)
    if not builder:
        raise EngineError(f"{_title(options)} cannot start: {log.errors or 'it gives no reason'}.")
    network = builder.create_network(_strongly_typed(module))
    _parse(module, network, log, path, options)
    check_signature(path, graph, *_signatures(network))
    config = builder.create_builder_config()
    # TensorFloat-32 keeps 10 bits of 23, so FP32 would not be FP32.
    if hasattr(module.BuilderFlag, "TF32"):
        config.clear_flag(module.BuilderFlag.TF32)
    _set_targets(module, config, options)
    _add_profiles(builder, config, graph)
    timings = _Timings(options)
    timings.load(config)
    with BuildMonitor(module, config, progress):
        built = builder.build_serialized_network(network, config)
    if built is None:
        raise EngineError(
            f"{_title(options)} cannot build {path}: {log.errors or 'it gives no reason'}."
        )
    timings.save(config)
    return bytes(built)


def _title(options: BuildOptions) -> str:
    return f"{options.flavour.name} {runtime(options.flavour).__version__}"


def _strongly_typed(module: Any) -> int:
    """Return the flag for the types of the file; from TensorRT 11 on there is no other way."""
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(module: Any, network: Any, log: Log, path: Path, options: BuildOptions) -> None:
    parser = module.OnnxParser(network, log.logger)
    if parser.parse_from_file(str(path)):
        return
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    reason = "; ".join(_parser_error(error) for error in errors) or log.errors or "it is unreadable"
    if file_length(path) is None or any(error.code().name == _DAMAGED for error in errors):
        raise ModelFolderError(
            f"{path} cannot be read by {_title(options)}: {reason}. Export the model again."
        )
    raise EngineError(
        f"{_title(options)} rejects {path}: {reason}. Export the model again, upgrade "
        f'{options.flavour.name}, or use backend="onnxruntime".'
    )


def _parser_error(error: Any) -> str:
    text = " ".join(str(error.desc()).split()).rstrip(".")
    code = error.code().name
    where = " ".join(filter(None, (error.node_operator(), error.node_name())))
    return f"{text} ({code}, in {where})" if where else f"{text} ({code})"


def _signatures(network: Any) -> tuple[list[TensorSignature], list[TensorSignature]]:
    def of(tensor: Any) -> TensorSignature:
        shape = tuple(None if size < 0 else size for size in tensor.shape)
        name = tensor.dtype.name
        return TensorSignature(frozenset({tensor.name}), DTYPES.get(name, name), shape)

    inputs = [of(network.get_input(number)) for number in range(network.num_inputs)]
    return inputs, [of(network.get_output(number)) for number in range(network.num_outputs)]


def _set_targets(module: Any, config: Any, options: BuildOptions) -> None:
    named = [target for target in options.targets if target != PORTABLE]
    if named:
        config.num_compute_capabilities = len(named)
    for number, target in enumerate(named):
        capability = getattr(module.ComputeCapability, target.upper())
        if not config.set_compute_capability(capability, number):
            raise EngineError(f"{_title(options)} does not build for {target}.")


def _add_profiles(builder: Any, config: Any, graph: GraphSpec) -> None:
    for ranges in profiles_of(graph):
        profile = builder.create_optimization_profile()
        for tensor in graph.inputs:
            if any(isinstance(size, str) for size in tensor.shape):
                profile.set_shape(tensor.name, *shapes(tensor, ranges))
        config.add_optimization_profile(profile)


class _Timings:
    """The cache of the times of tactics on this GPU, so that the next build need not time them.

    TensorRT-RTX times nothing ahead of time, and its functions for it do nothing.
    """

    def __init__(self, options: BuildOptions) -> None:
        folder = user_cache_folder() if options.timing_key and not options.targets else None
        self._cache = folder and CacheFolder(folder / "timings", _TIMINGS_BYTES, ".timings")
        self._key = sha256(f"{_title(options)} {options.timing_key}".encode()).hexdigest()

    def load(self, config: Any) -> None:
        if self._cache:
            known = self._cache.get(self._key, read_checksummed) or b""
            config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)

    def save(self, config: Any) -> None:
        if self._cache:
            content = bytes(config.get_timing_cache().serialize())
            # Times that cannot be cached are measured again, and nothing else is lost.
            with suppress(OutputError):
                self._cache.put(self._key, lambda path: write_checksummed(path, content))
