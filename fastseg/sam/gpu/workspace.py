"""A stream of a device, with arrays, copies and graph runs in its order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.backends.base import Backend
from fastseg.cuda.arrays import DeviceArray, device_array
from fastseg.cuda.device import Allocation, Bytes, Device
from fastseg.cuda.kernels import DeviceKernels


class PinnedMemory:
    """Page-locked host memory, which takes milliseconds to get, kept from call to call."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: list[Bytes] = []
        self._used: list[Bytes] = []

    def take(self, length: int) -> Bytes:
        """Take ``length`` bytes until ``take_back``."""
        fitting = [i for i, held in enumerate(self._free) if len(held) >= length]
        if fitting:
            held = self._free.pop(min(fitting, key=lambda i: len(self._free[i])))
        else:
            held = self._device.pinned(max(length, 1))
        self._used.append(held)
        return held[:length]

    def take_back(self) -> None:
        """Make all memory that was taken free again."""
        self._free += self._used
        self._used = []


class GpuWorkspace:
    """The stream of one mask generator, and arrays in the device's memory in its order.

    Arrays are dropped while the stream still uses them: their memory goes to later ones alone.
    """

    def __init__(self, device: Device, kernels: Callable[[int], DeviceKernels]) -> None:
        self.device = device
        self.pinned = PinnedMemory(device)
        self.stream = device.stream()
        self.readback = device.stream()
        self.kernels = kernels(self.stream.handle)

    def end(self) -> None:
        """Wait until the stream is idle, and make the pinned memory free again."""
        self.stream.synchronise()
        self.readback.synchronise()
        self.pinned.take_back()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Allocate an array of the device, to be written in the stream."""
        kind = np.dtype(dtype)
        length = max(math.prod(shape) * kind.itemsize, 1)
        allocation: Allocation = self.device.allocate(length, self.stream.handle)
        return self.placed(allocation.address, shape, kind, allocation)

    def placed(
        self, address: int, shape: tuple[int, ...], dtype: Any, owner: object
    ) -> DeviceArray:
        """Wrap the memory at an address as an array."""
        kind, stream = np.dtype(dtype), self.stream.handle
        return DeviceArray(address, shape, kind, self.device.name, owner, stream)

    def image(self, image: NDArray[np.uint8] | DeviceArray) -> DeviceArray:
        """Upload the image, unless it is on the device already."""
        if not isinstance(image, DeviceArray):
            return self.upload(np.ascontiguousarray(image))
        self._wait_for(image)
        return image

    def upload(self, array: NDArray[Any]) -> DeviceArray:
        """Copy an array to the device, in the order of the stream."""
        target = self.empty(array.shape, array.dtype)
        source = self.pinned.take(array.nbytes)
        source[:] = array.reshape(-1).view(np.uint8)
        self.stream.upload(target.address, source)
        return target

    def download(self, array: DeviceArray) -> NDArray[np.uint8]:
        """Copy an array to the host, and wait for it and all work before it."""
        target = self.pinned.take(array.nbytes)
        self.stream.download(target, array.address)
        self.stream.synchronise()
        return target

    def run(self, backend: Backend, inputs: Mapping[str, DeviceArray]) -> dict[str, DeviceArray]:
        """Run a graph in the order of the stream."""
        if backend.memory == "host":
            # An emulated device: its memory is the host's, and so are the graph's arrays.
            outputs = backend.run({name: np.asarray(array) for name, array in inputs.items()})
        else:
            outputs = backend.run(dict(inputs))  # type: ignore[arg-type]
        placed = {}
        for name, output in outputs.items():
            array = device_array(output, name)
            self._wait_for(array)
            placed[name] = self.placed(array.address, array.shape, array.dtype, output)
        return placed

    def _wait_for(self, array: DeviceArray) -> None:
        """Make later work in the stream wait for an array that another stream writes."""
        if array.stream not in (None, self.stream.handle):
            self.device.order(array.stream, self.stream.handle)
