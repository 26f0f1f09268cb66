"""A real device for tests and benchmarks, which are skipped by name where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fastseg.artifacts import ModelFolder
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.library import FLAVOURS
from fastseg.building import Built, Request, build
from fastseg.cuda import device as cuda_device
from fastseg.cuda import driver as cuda_driver
from fastseg.cuda import kernels as device_ops
from fastseg.cuda.arrays import DeviceArray
from fastseg.cuda.driver import CudaDriver
from fastseg.cuda.kernels import FILL, RECORD, Candidates
from fastseg.errors import BackendUnavailableError, EngineError


def require_gpu(*, kernels: bool = False, flavour: str = "") -> CudaDriver:
    """Skip unless a device can be used, and, where asked for, our kernels and a runtime."""
    try:
        driver = cuda_driver.probe()
        cuda_device.import_pycuda()
        if kernels:
            device_ops.cuda_module()
        if flavour:
            tensorrt_library.runtime(FLAVOURS[flavour])
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    return driver


def build_or_skip(source: ModelFolder, request: Request) -> Built:
    """Build, or skip where the runtime neither lists this GPU's architecture nor builds for it."""
    try:
        return build(source, request)
    except EngineError as error:
        architecture = cuda_driver.probe().devices[0].architecture
        known = tensorrt_library.targets(request.flavour)
        if not known or architecture in known:
            raise
        pytest.skip(f"{request.backend} builds for {', '.join(known)}: {error}")


class Gpu:
    """A device, a stream of it, its kernels, and copies between its memory and NumPy's."""

    def __init__(self) -> None:
        self.device = cuda_device.open_device(cuda_driver.probe().devices[0].index)
        with self.device.current():
            self.stream = self.device.stream()
        self.kernels = device_ops.cuda_kernels(self.device.name, self.stream.handle)

    def empty(self, shape, dtype) -> DeviceArray:
        dtype = np.dtype(dtype)
        memory = self.device.allocate(max(int(np.prod(shape)) * dtype.itemsize, 1))
        return DeviceArray(memory.address, tuple(shape), dtype, self.device.name, memory)

    def up(self, array) -> DeviceArray:
        array = np.ascontiguousarray(array)
        target, source = self.empty(array.shape, array.dtype), self.device.pinned(array.nbytes or 1)
        source[: array.nbytes] = array.reshape(-1).view(np.uint8)
        self.stream.upload(target.address, source[: array.nbytes])
        self.stream.synchronise()
        return target

    def down(self, array: DeviceArray) -> np.ndarray:
        target = self.device.pinned(array.nbytes or 1)[: array.nbytes]
        self.stream.download(target, array.address)
        self.stream.synchronise()
        return target.copy().view(array.dtype).reshape(array.shape)

    def candidates(self, masks, runs) -> Candidates:
        zeros = self.up(np.zeros(FILL.itemsize, np.uint8))
        records = self.empty((masks, RECORD.itemsize), np.uint8)
        return Candidates(records, self.empty((runs,), np.uint32), zeros)


@pytest.fixture(scope="module")
def gpu() -> Iterator[Gpu]:
    """Use the first device, whose context is that of the thread."""
    require_gpu(kernels=True)
    opened = Gpu()
    with opened.device.current():
        yield opened
