"""Everything mode wholly on a device: the picture goes up once, run lengths come down once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.manifest import Preprocessing
from fastseg.backends.base import Backend, DeviceBacked
from fastseg.cuda import device as cuda_device
from fastseg.cuda import kernels as device_ops
from fastseg.cuda.arrays import DeviceArray
from fastseg.cuda.device import Device
from fastseg.cuda.kernels import ALTERNATIVES, DeviceKernels
from fastseg.errors import DeviceMemoryError
from fastseg.geometry import Frame
from fastseg.inference.sessions import Sessions
from fastseg.sam.gpu.crop import CropSearch, Found, Limits, nothing_found
from fastseg.sam.gpu.memory_budget import MemoryPlan, plan_memory
from fastseg.sam.gpu.workspace import DeviceWork
from fastseg.timings import Stopwatch

GRAPHS = ("encoder", "image_state", "decoder", "mask_head")
"""What a search runs."""

FIRST_RUNS_PER_MASK = 1024
"""Room for run lengths at first; a search that finds more is made again with as much as it needs,
and the room is kept."""


class DeviceSearch:
    """Searches pictures on one device. Safe in several threads, which take turns.

    Args:
        graphs: Those in ``GRAPHS`` by name, which take and give arrays of the device. The search
            closes them.
        preprocessing: How a picture becomes the encoder's input.
        device: Its memory and streams.
        kernels: Its operations on the stream of a handle.
    """

    def __init__(
        self,
        graphs: Mapping[str, Backend],
        preprocessing: Preprocessing,
        device: Device,
        kernels: Callable[[int], DeviceKernels],
    ) -> None:
        self.device = device
        self._graphs = graphs
        self._preprocessing = preprocessing
        self._kernels = kernels
        self._lock = threading.Lock()
        self._work: DeviceWork | None = None
        self._runs_per_mask = FIRST_RUNS_PER_MASK
        self._most_prompts: int | None = None

    def search(
        self,
        image: NDArray[np.uint8] | DeviceArray,
        crops: Sequence[tuple[Frame, NDArray[np.float64]]],
        limits: Limits,
        watch: Stopwatch,
    ) -> list[Found]:
        """Find the masks of a picture, or of crops of it.

        Args:
            image: (height, width, 3) uint8; one that is on the device stays where it is.
            crops: Each with its clicks, (n, 2) in 0..1.
            limits: What masks must be like.
            watch: Adds up how long the host was busy with each stage; the device works on
                meanwhile, so only their sum says how long the search took.

        Raises:
            DeviceMemoryError: The device has too little memory, even for half as much at a time.
            BackendError: A graph failed.
        """
        with self._lock, self.device.current():
            work = self._work = self._work or DeviceWork(self.device, self._kernels)
            try:
                with watch("preprocess"):
                    pixels = work.picture(image)
                return [self._crop(work, pixels, *crop, limits, watch) for crop in crops]
            finally:
                work.end()

    def close(self) -> None:
        """Close the graphs; harmless when called again."""
        with self._lock:
            for graph in self._graphs.values():
                graph.close()
            if self._work is not None:
                self._work = None
                with self.device.current():
                    self.device.give_back()

    def _crop(
        self,
        work: DeviceWork,
        image: DeviceArray,
        frame: Frame,
        grid: NDArray[np.float64],
        limits: Limits,
        watch: Stopwatch,
    ) -> Found:
        if len(grid) == 0:
            return nothing_found(frame)
        plan = self._plan(len(grid), limits)
        crop = CropSearch(self._graphs, self._preprocessing, work, frame, limits)
        with watch("encode"):
            crop.encode(image)
        try:
            return self._masks(crop, grid, plan, watch)
        except DeviceMemoryError as error:
            smaller = plan.halved()
            self._most_prompts = smaller.prompts_per_pass
            warnings.warn(
                f"{self.device.name} has too little memory for {plan.prompts_per_pass} prompts at "
                f"a time ({error}) From now on it is {smaller.prompts_per_pass}.",
                RuntimeWarning,
                stacklevel=5,
            )
        # Outside the handler, whose error holds on to the memory of what failed.
        crop.forget()
        self.device.give_back()
        return self._masks(crop, grid, smaller, watch)

    def _plan(self, prompts: int, limits: Limits) -> MemoryPlan:
        graphs = [self._graphs[name].graph for name in ("decoder", "mask_head")]
        plan = plan_memory(*graphs, prompts=prompts, most_bytes=limits.max_device_memory)
        if self._most_prompts is None or plan.prompts_per_pass <= self._most_prompts:
            return plan
        return replace(plan, prompts_per_pass=self._most_prompts)

    def _masks(
        self, crop: CropSearch, grid: NDArray[np.float64], plan: MemoryPlan, watch: Stopwatch
    ) -> Found:
        """Decode and filter; once more if the run lengths found no room."""
        masks = len(grid) * ALTERNATIVES
        found, needed = crop.masks(grid, plan, masks * self._runs_per_mask, watch)
        if found is None:
            self._runs_per_mask = -(-needed // masks)
            found, _ = crop.masks(grid, plan, needed, watch)
        if found is None:
            raise DeviceMemoryError("The same picture gave more run lengths the second time.")
        return found


def search_on_device(graphs: Sessions) -> DeviceSearch | None:
    """A search where the graphs run, or None where they cannot leave their arrays on a device.

    Also None if they can and the CUDA kernels were not built: then what the graphs give is copied
    to the host, and the CPU's kernels go on.

    Raises:
        BackendUnavailableError: A graph takes and gives nothing but arrays on a device, and the
            CUDA kernels were not built.
    """
    placed: dict[str, Backend] = {}
    for name in GRAPHS:
        backend = graphs[name]
        if backend.memory == "cuda":
            device_ops.cuda_module()
            placed[name] = backend
        elif isinstance(backend, DeviceBacked) and device_ops.is_built():
            placed[name] = backend.on_device()
        else:
            return None
    where = graphs["encoder"].name.partition(":")[2]  # "cuda:1"
    device = cuda_device.open_device(int(where.partition(":")[2] or 0))
    return DeviceSearch(
        placed,
        graphs.folder.manifest.image_preprocessing,
        device,
        lambda stream: device_ops.cuda_kernels(device.name, stream),
    )
