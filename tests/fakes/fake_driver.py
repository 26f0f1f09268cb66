"""A fake of the NVIDIA driver's library: devices without a GPU."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FakeDevice:
    """A device that the fake driver lists."""

    name: str = "Fake GPU"
    compute_capability: tuple[int, int] = (8, 9)
    memory_bytes: int = 8 * 2**30


class FakeDriverLibrary:
    """A library that answers as ``libcuda.so.1`` does.

    Args:
        devices: What it lists.
        cuda: The newest CUDA that it serves, as the driver codes it: 13000 is 13.0.
        init: Result of ``cuInit``; 0 is success.
    """

    def __init__(
        self, devices: tuple[FakeDevice, ...] = (FakeDevice(),), cuda: int = 13000, init: int = 0
    ) -> None:
        self.devices = devices
        self.cuda = cuda
        self.init = init

    # The names, and the order of arguments, are those of the driver.

    def cuInit(self, flags: int) -> int:  # noqa: N802
        """Start the driver."""
        return self.init or flags

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        """Write the newest version of CUDA that is supported."""
        return _write(version, self.cuda)

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        """Write the number of devices."""
        return _write(count, len(self.devices))

    def cuDeviceGet(self, handle: Any, index: int) -> int:  # noqa: N802
        """Write the handle of a device, here its number."""
        return _write(handle, index)

    def cuDeviceGetName(self, name: Any, length: int, handle: int) -> int:  # noqa: N802
        """Write a device's name."""
        name.value = self.devices[handle].name.encode()[: length - 1]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, handle: int) -> int:  # noqa: N802
        """Write the bytes of a device's memory."""
        return _write(memory, self.devices[handle].memory_bytes)

    def cuDeviceGetAttribute(self, value: Any, attribute: int, handle: int) -> int:  # noqa: N802
        """Write the compute capability: attribute 75 is its first number, 76 the second."""
        return _write(value, self.devices[handle].compute_capability[attribute - 75])


def _write(reference: Any, value: int) -> int:
    """Write through a reference of ``ctypes.byref``, or a pointer."""
    target = getattr(reference, "_obj", None)
    if target is None:
        target = ctypes.cast(reference, ctypes.POINTER(ctypes.c_int)).contents
    target.value = value
    return 0
