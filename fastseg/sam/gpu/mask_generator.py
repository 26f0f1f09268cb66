"""Everything mode wholly on a device: the image goes up once, run lengths come down once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.backends.base import Backend, DeviceBacked
from fastseg.contract import ALTERNATIVES
from fastseg.cuda import device as cuda_device
from fastseg.cuda import kernels as device_ops
from fastseg.cuda.arrays import DeviceArray, device_array, is_on_device
from fastseg.cuda.device import Device
from fastseg.cuda.kernels import DeviceKernels
from fastseg.errors import DeviceMemoryError, ImageError
from fastseg.geometry import Frame
from fastseg.images import Channels, ImageSource, check_size, read_image
from fastseg.inference.sessions import Sessions
from fastseg.sam.gpu.crop import Found, GpuCrop, nothing_found
from fastseg.sam.gpu.memory_budget import MemoryPlan, plan_memory
from fastseg.sam.gpu.workspace import GpuWorkspace
from fastseg.sam.grid_settings import GridSettings
from fastseg.timings import Stopwatch

GRAPHS = ("encoder", "image_state", "decoder", "mask_head")
"""The graphs that everything mode runs."""

FIRST_RUNS_PER_MASK = 1024
"""Room for run lengths at first. A crop that needs more is decoded again with as much as it needs,
and the room is kept."""


class GpuMaskGenerator:
    """Everything mode on one device. Safe in several threads, which take turns.

    Memory that runs out is met in two places. A TensorRT backend whose graph run fails halves that
    run first and by itself, so that nothing above it changes. An allocation that fails here halves
    the prompts of a pass, once for each crop, and for all later images.

    Args:
        graphs: Those in ``GRAPHS`` by name, which take and give arrays of the device. ``close``
            closes them.
        preprocessing: How an image becomes the encoder's input.
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
        self._work: GpuWorkspace | None = None
        self._runs_per_mask = FIRST_RUNS_PER_MASK
        self._most_prompts: int | None = None

    def read(
        self, image: ImageSource, *, channels: Channels, max_pixels: int | None
    ) -> NDArray[np.uint8] | DeviceArray:
        """Read an image to the host's memory, unless it is an array of this device.

        Raises:
            ImageError: The image cannot be used.
        """
        if not is_on_device(image):
            return read_image(image, channels=channels, max_pixels=max_pixels)
        if channels != "rgb":
            raise ImageError(
                f'an image on {self.device.name} must have channels="rgb", not {channels!r}. '
                "Turn them there, or give a host array."
            )
        array = device_array(
            image, "image", device=self.device.name, dtype=np.uint8, shape=(None, None, 3)
        )
        check_size(array.shape[1], array.shape[0], "image", max_pixels)
        return array

    def generate(
        self,
        image: NDArray[np.uint8] | DeviceArray,
        crops: Sequence[tuple[Frame, NDArray[np.float64]]],
        settings: GridSettings,
        watch: Stopwatch,
    ) -> list[Found]:
        """Find the masks of an image, or of crops of it.

        Args:
            image: (height, width, 3) uint8; one that is on the device stays where it is.
            crops: Each with its points, (n, 2) in 0..1.
            settings: The filters, and the device memory that prompts may take.
            watch: Adds up the time that the host spends in each stage; the device works on
                meanwhile, so only their sum is the time of the call.

        Raises:
            DeviceMemoryError: The device has too little memory, even for half as much at a time.
            BackendError: A graph failed.
        """
        with self._lock, self.device.current():
            work = self._work = self._work or GpuWorkspace(self.device, self._kernels)
            try:
                with watch("preprocess"):
                    pixels = work.image(image)
                found = []
                for frame, grid in crops:
                    found.append(self._crop(work, pixels, frame, grid, settings, watch))
                return found
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
        work: GpuWorkspace,
        image: DeviceArray,
        frame: Frame,
        grid: NDArray[np.float64],
        settings: GridSettings,
        watch: Stopwatch,
    ) -> Found:
        if len(grid) == 0:
            return nothing_found(frame)
        plan = self._plan(len(grid), settings)
        crop = GpuCrop(self._graphs, self._preprocessing, work, frame, settings)
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
        crop.release()
        self.device.give_back()
        return self._masks(crop, grid, smaller, watch)

    def _plan(self, prompts: int, settings: GridSettings) -> MemoryPlan:
        graphs = [self._graphs[name].graph for name in ("decoder", "mask_head")]
        plan = plan_memory(*graphs, prompts=prompts, most_bytes=settings.max_device_memory)
        if self._most_prompts is None or plan.prompts_per_pass <= self._most_prompts:
            return plan
        return replace(plan, prompts_per_pass=self._most_prompts)

    def _masks(
        self, crop: GpuCrop, grid: NDArray[np.float64], plan: MemoryPlan, watch: Stopwatch
    ) -> Found:
        """Decode and filter; a second time if there was too little room for the run lengths."""
        masks = len(grid) * ALTERNATIVES
        found, needed = crop.masks(grid, plan, masks * self._runs_per_mask, watch)
        if found is None:
            self._runs_per_mask = -(-needed // masks)
            found, _ = crop.masks(grid, plan, needed, watch)
        if found is None:
            raise DeviceMemoryError(
                "The same image gave more run lengths the second time. Try again."
            )
        return found


def open_gpu_mask_generator(graphs: Sessions) -> GpuMaskGenerator | None:
    """Open everything mode on the device where the graphs run.

    Returns:
        None where the graphs cannot leave their arrays on a device, or can and the CUDA kernels
        were not built: then their outputs are copied to the host, and the CPU's kernels go on.

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
    return GpuMaskGenerator(
        placed,
        graphs.folder.manifest.image_preprocessing,
        device,
        lambda stream: device_ops.cuda_kernels(device.name, stream),
    )
