"""What TensorRT and TensorRT-RTX answer to the table of runtimes: which engines are here, or none.

Nothing is built when a model is loaded: that takes minutes, and below FP32 nothing runs that was
not compared. ``fastseg build`` does both.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.base import USE_CPU, Memory, Plan, check_device
from fastseg.backends.stored import choose_file
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.backend import TensorRtBackend
from fastseg.backends.tensorrt.engine import load_engine
from fastseg.backends.tensorrt.engine_key import Gpu
from fastseg.backends.tensorrt.engine_lookup import find_engine
from fastseg.backends.tensorrt.library import Flavour
from fastseg.cuda import device as cuda_device
from fastseg.cuda import driver as cuda_driver
from fastseg.cuda.driver import CudaDriver
from fastseg.errors import BackendError, BackendUnavailableError, EngineError

DEVICES: tuple[str, ...] = ("cuda",)

_PRECISIONS = ("fp16", "fp32")
"""What engines are built in, the faster one first."""


class Face:
    """The functions of one flavour's module; see ``Runtime``."""

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour

    def require(self, device: str, precision: str) -> str:
        """See ``Runtime.require``: the runtime, pycuda, and a device."""
        check_device(self.flavour.name, DEVICES, device)
        self._check_precision(precision)
        tensorrt_library.runtime(self.flavour)
        wanted = "cuda" if device == "auto" else device
        index = cuda_driver.require_device(wanted).index
        cuda_device.import_pycuda()
        return f"cuda:{index}"

    def settle(self, folder: ModelFolder, graph_name: str, precision: str) -> tuple[GraphFile, str]:
        """See ``Runtime.settle``: the file of which there is an engine for one of the devices."""
        self._check_precision(precision)
        tensorrt_library.runtime(self.flavour)
        driver = self._driver()
        if precision != "auto":
            stored = choose_file(folder, graph_name, precision=precision)
            if (error := self._refusal(folder, stored, driver)) is not None:
                raise error
            return stored, precision
        held = _held(folder, graph_name)
        refusals = [self._refusal(folder, stored, driver) for stored in held]
        for stored, refusal in zip(held, refusals, strict=True):
            if refusal is None:
                return stored, stored.precision
        # Says also that the folder lacks the graph, if it does.
        choose_file(folder, graph_name)
        raise next(filter(None, refusals), self._none_to_run(folder, graph_name))

    def open_graph(
        self, folder: ModelFolder, plan: Plan, *, threads: int, keep_memory: bool
    ) -> TensorRtBackend:
        """See ``Runtime.open_graph``."""
        del threads, keep_memory  # of the processor
        return self.open_engine(folder, plan.stored, device=plan.device, memory="host")

    def open_engine(
        self, folder: ModelFolder, stored: GraphFile, *, device: str, memory: Memory
    ) -> TensorRtBackend:
        """Load the engine of a graph.

        Args:
            folder: A model folder that was read.
            stored: Its graph.
            device: ``"cuda"`` or ``"cuda:1"``.
            memory: Where ``run`` takes and leaves its arrays.

        Raises:
            BackendUnavailableError: The runtime, pycuda or the device is not here.
            EngineError: No engine that is here fits this GPU, or the one that does is damaged.
            ModelFolderError: The engine is not the graph that ``model.json`` describes.
            DeviceMemoryError: The device has no room for it.
        """
        found = cuda_driver.require_device(device)
        gpu = Gpu.of(found, cuda_driver.probe())
        stored_engine = find_engine(folder, stored, self.flavour, gpu)
        content = stored_engine.read()
        opened = cuda_device.open_device(found.index)
        with opened.current():
            engine = load_engine(content, self.flavour, gpu, str(stored_engine.path))
        return TensorRtBackend(
            engine, stored.graph, opened, runtime=self.flavour.name, memory=memory
        )

    def _refusal(
        self, folder: ModelFolder, stored: GraphFile, driver: CudaDriver
    ) -> EngineError | None:
        """Why none of the devices has an engine of a graph; None if one has."""
        refusals = [
            self._refusal_on(folder, stored, Gpu.of(device, driver)) for device in driver.devices
        ]
        return None if None in refusals else refusals[0]

    def _refusal_on(self, folder: ModelFolder, stored: GraphFile, gpu: Gpu) -> EngineError | None:
        try:
            find_engine(folder, stored, self.flavour, gpu)
        except EngineError as error:
            return error
        return None

    def _none_to_run(self, folder: ModelFolder, graph_name: str) -> BackendError:
        return BackendError(
            f"{folder.path} holds {graph_name} neither in fp16 nor in fp32, which "
            f"{self.flavour.name} computes in. Export the model again."
        )

    def _driver(self) -> CudaDriver:
        try:
            return cuda_driver.probe()
        except BackendUnavailableError as error:
            raise BackendUnavailableError(
                self.flavour.name, reason=error.reason, remedy=f"{error.remedy} {USE_CPU}"
            ) from error

    def _check_precision(self, precision: str) -> None:
        known: Sequence[str] = ("auto", *_PRECISIONS)
        if precision not in known:
            raise BackendError(
                f"{self.flavour.name} computes in {' or '.join(_PRECISIONS)}, not in "
                f'{precision!r}. Use precision="auto".'
            )


def _held(folder: ModelFolder, graph_name: str) -> list[GraphFile]:
    """The files of a graph that engines can be built from, the faster precision first."""
    graphs = folder.manifest.graphs.values()
    found = {stored.precision: stored for stored in graphs if stored.graph.name == graph_name}
    return [found[precision] for precision in _PRECISIONS if precision in found]
