"""The NVIDIA driver and its devices, read through the library of the driver."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastseg import environment
from fastseg.errors import BackendUnavailableError

OLDEST_CUDA = (12, 0)
"""The CUDA version that a driver must support at least; JetPack 6 supports 12.6."""

_USE_CPU = 'Use device="cpu", or "auto" for device and backend.'
_INSTALL_DRIVER = "Install the NVIDIA driver of this GPU (nvidia-smi must list it)."

_NO_DEVICE = 100

_REASONS = {
    2: "the device is out of memory",
    3: "the driver was started before this process was forked from its parent",
    34: "libcuda.so.1 is the stub of the CUDA toolkit and no driver",
    _NO_DEVICE: "the driver finds no CUDA device",
    101: "the device cannot be used by this process",
    803: "the driver's library and its kernel module are of different versions",
    804: "this GPU does not run the compatibility libraries of a newer driver",
    999: "the driver failed to start and gives no reason",
}
"""Results of the driver that a user can act on; the numbers are NVIDIA's."""

_REMEDIES = {
    3: "Start processes by multiprocessing's 'spawn' where the parent uses CUDA.",
    34: "Take the toolkit's stubs folder out of LD_LIBRARY_PATH. " + _INSTALL_DRIVER,
    _NO_DEVICE: "Check CUDA_VISIBLE_DEVICES and, in a container, that it was started with its GPUs "
    f"(docker run --gpus all). {_USE_CPU}",
    803: "Restart the machine, or install the driver again.",
}

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""Numbers of the device attributes."""

_NAME_BYTES = 256
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """One device as the driver describes it."""

    index: int
    """Number among the devices of this process, the 1 of ``"cuda:1"``."""

    name: str
    """``"NVIDIA H100 80GB HBM3"``."""

    compute_capability: tuple[int, int]
    """(9, 0)."""

    memory_bytes: int

    @property
    def architecture(self) -> str:
        """``"sm90"``."""
        major, minor = self.compute_capability
        return f"sm{major}{minor}"


@dataclass(frozen=True, slots=True)
class CudaDriver:
    """The driver and its devices."""

    cuda: tuple[int, int]
    """The newest CUDA version that it supports, (13, 0)."""

    release: str
    """Version of the driver itself, ``"580.95.05"``; that of ``cuda`` where it is not known."""

    devices: tuple[CudaDevice, ...]

    @property
    def cuda_version(self) -> str:
        """``"13.0"``."""
        return f"{self.cuda[0]}.{self.cuda[1]}"


@cache
def probe() -> CudaDriver:
    """Start the driver and list its devices, once a process.

    A test that fakes the driver replaces the cache, as ``tests.fakes.fake_machine`` does, or calls
    ``probe.cache_clear()``. A forked child starts with an empty cache: it cannot use the driver of
    its parent.

    Raises:
        BackendUnavailableError: There is no driver, it does not start, it is too old, or it has no
            device. The message gives reason and remedy. Errors are not cached.
    """
    library = _library()
    _check(library.cuInit(0))
    cuda = _integer(library.cuDriverGetVersion)
    version = (cuda // 1000, cuda % 1000 // 10)
    if version < OLDEST_CUDA:
        raise BackendUnavailableError(
            "cuda",
            reason=f"the driver supports CUDA {version[0]}.{version[1]}, and at least "
            f"{OLDEST_CUDA[0]}.{OLDEST_CUDA[1]} is needed",
            remedy=f"Install a newer NVIDIA driver. {_USE_CPU}",
        )
    count = _integer(library.cuDeviceGetCount)
    if count == 0:
        _check(_NO_DEVICE)
    devices = tuple(_device(library, index) for index in range(count))
    return CudaDriver(version, _release() or f"{version[0]}.{version[1]}", devices)


def require_device(device: str) -> CudaDevice:
    """Find the device of a name.

    Args:
        device: ``"cuda"``, which is the first, or ``"cuda:1"``.

    Raises:
        BackendUnavailableError: There is no driver, or no device of this number.
    """
    try:
        devices = probe().devices
    except BackendUnavailableError as error:
        raise BackendUnavailableError(device, reason=error.reason, remedy=error.remedy) from error
    index = int(device.partition(":")[2] or 0)
    if index >= len(devices):
        present = ", ".join(f"cuda:{one.index} ({one.name})" for one in devices)
        raise BackendUnavailableError(
            device,
            reason=f"this process sees {len(devices)} CUDA device(s): {present}",
            remedy=f'Use device="cuda:{len(devices) - 1}" or a lower number, or check '
            "CUDA_VISIBLE_DEVICES.",
        )
    return devices[index]


def is_here() -> bool:
    """Tell whether there is a driver with a device that fastseg can use."""
    try:
        probe()
    except BackendUnavailableError:
        return False
    return True


def _library() -> Any:
    """Load the driver's library."""
    try:
        return ctypes.CDLL(environment.CUDA_DRIVER)
    except OSError as error:
        raise BackendUnavailableError(
            "cuda",
            reason=f"there is no NVIDIA driver here ({error})",
            remedy=f"{_INSTALL_DRIVER} {_USE_CPU}",
        ) from error


def _device(library: Any, index: int) -> CudaDevice:
    handle = _integer(library.cuDeviceGet, index)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(library.cuDeviceGetName(name, _NAME_BYTES, handle))
    memory = ctypes.c_size_t()
    _check(library.cuDeviceTotalMem_v2(ctypes.byref(memory), handle))
    major = _integer(library.cuDeviceGetAttribute, _CAPABILITY_MAJOR, handle)
    minor = _integer(library.cuDeviceGetAttribute, _CAPABILITY_MINOR, handle)
    return CudaDevice(index, name.value.decode(errors="replace"), (major, minor), memory.value)


def _integer(function: Any, *arguments: int) -> int:
    """Return the integer that a function of the driver writes through its first argument."""
    value = ctypes.c_int()
    _check(function(ctypes.byref(value), *arguments))
    return value.value


def _check(result: int) -> None:
    if result:
        raise BackendUnavailableError(
            "cuda",
            reason=_REASONS.get(result, f"the driver returned error {result}"),
            remedy=_REMEDIES.get(result, f"{_INSTALL_DRIVER} {_USE_CPU}"),
        )


def _release() -> str | None:
    """Read the driver's own version, which only its kernel module has."""
    with suppress(OSError):
        found = re.search(r"\s(\d+\.\d+[.\d]*)\s", _KERNEL_MODULE.read_text(errors="replace"))
        return found and found[1]
    return None


def _after_fork() -> None:
    probe.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
