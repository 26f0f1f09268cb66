"""A device whose memory is the host's and whose kernels are plain loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from fastseg.cuda.arrays import HOST
from fastseg.errors import DeviceMemoryError

Bytes = NDArray[np.uint8]

ALIGNMENT = 256
"""Addresses are multiples of it, as those of the CUDA driver."""


class EmulatedDevice:
    """A CUDA device in pipelines, with ``cuda.kernels.emulated_kernels``.

    Memory is full of old bytes when it is taken, as a device's is. What is put into a stream is
    done at once.

    Args:
        memory_bytes: How much it has.
    """

    def __init__(self, memory_bytes: int = 2**40) -> None:
        self.name = HOST
        self.memory_bytes = memory_bytes
        self.used_bytes = 0
        self.most_bytes = 0
        """Peak of the allocated memory in bytes."""
        self.uploaded: list[int] = []
        self.downloaded: list[int] = []
        """Bytes of every copy to the device, and from it."""
        self._current = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        """Do nothing: there is no context to enter."""
        self._current += 1
        try:
            yield
        finally:
            self._current -= 1

    def allocate(self, length: int, stream: int | None = None) -> EmulatedAllocation:
        """Allocate memory.

        Raises:
            DeviceMemoryError: There is not enough.
        """
        del stream  # work is done when it is submitted, so freed memory may be reused at once
        if self._current == 0:
            raise RuntimeError("the device is used outside current()")
        if self.used_bytes + length > self.memory_bytes:
            raise DeviceMemoryError(f"The emulated device has no {length} bytes left.")
        return EmulatedAllocation(self, length)

    def order(self, before: int, after: int) -> None:
        """Do nothing: work is done when it is submitted."""

    def wait_for(self, stream: int) -> None:
        """Do nothing: work is done when it is submitted."""

    def pinned(self, length: int) -> Bytes:
        """Allocate host memory."""
        return np.full(length, 0xA5, np.uint8)

    def stream(self) -> EmulatedStream:
        """Make a stream."""
        return EmulatedStream(self)

    def give_back(self) -> None:
        """Do nothing: there is no memory pool."""


class EmulatedAllocation:
    """Memory that is freed with this object."""

    def __init__(self, device: EmulatedDevice, length: int) -> None:
        self._device, self.length = device, length
        self._memory = np.full(length + ALIGNMENT, 0xA5, np.uint8)
        self.address = self._memory.ctypes.data + -self._memory.ctypes.data % ALIGNMENT
        device.used_bytes += length
        device.most_bytes = max(device.most_bytes, device.used_bytes)

    def __del__(self) -> None:
        # A read after this would be wrong on a device too, where the memory has another owner.
        self._memory[:] = 0x5A
        self._device.used_bytes -= self.length


class EmulatedStream:
    """A stream whose work is done when it is submitted."""

    handle = 0

    def __init__(self, device: EmulatedDevice) -> None:
        self._device = device

    def upload(self, address: int, source: Bytes) -> None:
        """Copy to the device."""
        self._device.uploaded.append(len(source))
        _at(address, len(source))[:] = source

    def download(self, target: Bytes, address: int) -> None:
        """Copy from the device."""
        self._device.downloaded.append(len(target))
        target[:] = _at(address, len(target))

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy on the device."""
        _at(target, length)[:] = _at(source, length)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return ``work``: it does what a recorded graph does."""
        return work

    def is_done(self) -> bool:
        """Do nothing: work is done when it is submitted."""
        return True

    def synchronise(self) -> None:
        """Do nothing: work is done when it is submitted."""


def _at(address: int, length: int) -> Bytes:
    class Memory:
        __array_interface__ = {  # noqa: RUF012 - read once, below
            "shape": (length,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }

    return np.asarray(Memory()) if length else np.zeros(0, np.uint8)
