"""TensorRT and TensorRT-RTX as runtimes: they run the engines that fit this GPU, and build none.

Building an engine takes minutes, and below FP32 no engine runs that was not compared with FP32.
``fastseg build`` does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.base import USE_CPU, Memory, Plan, Runtime, check_device
from fastseg.backends.tensorrt import library
from fastseg.backends.tensorrt.library import FLAVOURS, TENSORRT, TENSORRT_RTX, Flavour
from fastseg.errors import BackendError, BackendUnavailableError, EngineError

if TYPE_CHECKING:
    from fastseg.backends.tensorrt.backend import TensorRtBackend
    from fastseg.backends.tensorrt.engine_key import Gpu

_PRECISIONS = ("fp16", "fp32")
"""The precisions of engines, the faster one first."""


class TensorRtRuntime(Runtime):
    """One flavour of TensorRT.

    What needs a GPU is imported by the methods: the table of runtimes lists this class on machines
    without one.

    Args:
        flavour: ``TENSORRT`` or ``TENSORRT_RTX``.
    """

    devices = ("cuda",)
    own_layout = True  # graphs in FP16 pass arrays on that graphs in FP32 do not take

    def __init__(self, flavour: Flavour) -> None:
        self.name = flavour.name
        self._flavour = flavour

    def require(self, device: str, precision: str) -> str:
        """See ``Runtime.require``: the runtime, pycuda, and a device."""
        check_device(self.name, self.devices, device)
        self._check_precision(precision)
        library.runtime(self._flavour)
        from fastseg.cuda import device as cuda_device
        from fastseg.cuda import driver

        index = driver.require_device("cuda" if device == "auto" else device).index
        cuda_device.import_pycuda()
        return f"cuda:{index}"

    def resolve(
        self,
        folder: ModelFolder,
        graph_name: str,
        precision: str,
        *,
        allow_uncompared: bool = False,
    ) -> tuple[GraphFile, str]:
        """See ``Runtime.resolve``: the file that one of the devices has an engine of."""
        self._check_precision(precision)
        library.runtime(self._flavour)
        gpus = self._gpus()
        if precision != "auto":
            stored = folder.graph_file(graph_name, precision)
            if (error := self._refusal(folder, stored, gpus, allow_uncompared)) is not None:
                raise error
            return stored, precision
        candidates = _files(folder, graph_name)
        refusals = []
        for stored in candidates:
            if (error := self._refusal(folder, stored, gpus, allow_uncompared)) is None:
                return stored, stored.precision
            refusals.append(error)
        # Raises if the folder lacks the graph in every precision.
        folder.graph_file(graph_name)
        if refusals:
            raise refusals[0]
        raise BackendError(
            f"{folder.path} holds {graph_name} neither in fp16 nor in fp32, which {self.name} "
            "computes in. Export the model again."
        )

    def open_graph(
        self, folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
    ) -> TensorRtBackend:
        """See ``Runtime.open_graph``."""
        del threads, keep_memory  # of the CPU
        return open_engine(
            folder,
            plan.stored,
            device=plan.device,
            memory="host",
            backend=self.name,
            allow_uncompared=plan.allow_uncompared,
        )

    def version(self) -> str:
        """Return the version of the runtime, ``"1.7.1.116"``."""
        return library.version(self._flavour)

    def use_without_device(self) -> str:
        """Describe building, for which TensorRT-RTX needs no GPU; empty if it is not installed."""
        if not self._flavour.ahead_of_time:
            return ""
        try:
            return f"version {self.version()} can build engines here and not run them"
        except BackendUnavailableError:
            return ""

    def _gpus(self) -> list[Gpu]:
        from fastseg.backends.tensorrt.engine_key import Gpu
        from fastseg.cuda import driver

        try:
            found = driver.probe()
        except BackendUnavailableError as error:
            raise BackendUnavailableError(
                self.name, reason=error.reason, remedy=f"{error.remedy} {USE_CPU}"
            ) from error
        return [Gpu.of(device, found) for device in found.devices]

    def _refusal(
        self, folder: ModelFolder, stored: GraphFile, gpus: Sequence[Gpu], allow_uncompared: bool
    ) -> EngineError | None:
        """Return the reason why no device has an engine of a graph; None if one has."""
        from fastseg.backends.tensorrt.engine_cache import find_engine

        def refusal_on(gpu: Gpu) -> EngineError | None:
            try:
                find_engine(folder, stored, self._flavour, gpu, allow_uncompared=allow_uncompared)
            except EngineError as error:
                return error
            return None

        refusals = [refusal_on(gpu) for gpu in gpus]
        return None if None in refusals else refusals[0]

    def _check_precision(self, precision: str) -> None:
        if precision not in ("auto", *_PRECISIONS):
            raise BackendError(
                f"{self.name} computes in {' or '.join(_PRECISIONS)}, not in "
                f'{precision!r}. Use precision="auto".'
            )


TENSORRT_RUNTIME = TensorRtRuntime(TENSORRT)

TENSORRT_RTX_RUNTIME = TensorRtRuntime(TENSORRT_RTX)


def open_engine(
    folder: ModelFolder,
    stored: GraphFile,
    *,
    device: str,
    memory: Memory,
    backend: str = "tensorrt",
    allow_uncompared: bool = False,
) -> TensorRtBackend:
    """Load the engine of a graph.

    Args:
        folder: A model folder that was read.
        stored: Its graph.
        device: ``"cuda"`` or ``"cuda:1"``.
        memory: Memory of the arrays that ``run`` returns, ``"host"`` or ``"cuda"``.
        backend: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        allow_uncompared: Whether an engine below FP32 may run that was not compared with FP32 on
            this GPU.

    Raises:
        BackendUnavailableError: The runtime, pycuda or the device is not here.
        EngineError: No engine here fits this GPU, or the one that does is damaged.
        ModelFolderError: The engine is not the graph that ``model.json`` describes.
        DeviceMemoryError: The device has no room for it.
    """
    from fastseg.backends.tensorrt import engine
    from fastseg.backends.tensorrt.backend import TensorRtBackend
    from fastseg.backends.tensorrt.engine_cache import find_engine
    from fastseg.backends.tensorrt.engine_key import Gpu
    from fastseg.cuda import device as cuda_device
    from fastseg.cuda import driver

    flavour = FLAVOURS[backend]
    found = driver.require_device(device)
    gpu = Gpu.of(found, driver.probe())
    stored_engine = find_engine(folder, stored, flavour, gpu, allow_uncompared=allow_uncompared)
    content = stored_engine.read()
    opened = cuda_device.open_device(found.index)
    with opened.current():
        loaded = engine.load_engine(content, flavour, gpu, str(stored_engine.path))
    return TensorRtBackend(loaded, stored.graph, opened, runtime=backend, memory=memory)


def _files(folder: ModelFolder, graph_name: str) -> list[GraphFile]:
    """List the files of a graph that engines are built from, the faster precision first."""
    graphs = folder.manifest.graphs.values()
    found = {stored.precision: stored for stored in graphs if stored.graph.name == graph_name}
    return [found[precision] for precision in _PRECISIONS if precision in found]
