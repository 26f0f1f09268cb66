"""A CUDA device: memory, streams and recorded graphs, by pycuda in the primary context.

The primary context is the one that torch, CuPy and the CUDA runtime use, so their arrays are ours
and ours theirs. This is a seam: ``fastseg.testing.FakeCuda`` stands in for a device that is not
there.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastseg.backends import cuda_driver
from fastseg.errors import BackendError, BackendUnavailableError, DeviceMemoryError

Bytes = NDArray[np.uint8]

_NO_TIMING = 2
"""An event that orders work and measures nothing is cheaper."""

_CAPTURE_THIS_THREAD = 1
"""Other threads may go on allocating while one records."""


class Allocation(Protocol):
    """Device memory, freed when this is dropped."""

    @property
    def address(self) -> int:
        """Where it begins, a multiple of 256."""

    @property
    def length(self) -> int:
        """In bytes, at least what was asked for."""


class Stream(Protocol):
    """Work that the device does in order. Nothing has happened before ``synchronise`` returns."""

    @property
    def handle(self) -> int:
        """The driver's handle."""

    def upload(self, address: int, source: Bytes) -> None:
        """Copy page-locked bytes to the device."""

    def download(self, target: Bytes, address: int) -> None:
        """Copy from the device to page-locked bytes."""

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy between two addresses on the device."""

    def wait_for(self, handle: int) -> None:
        """Do what follows after all that is now in another stream; 1 and 2 are the default ones."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` puts into this stream, undone, as a CUDA graph.

        Returns:
            A function that puts all of it into this stream at once.
        """

    def synchronise(self) -> None:
        """Wait until everything is done."""


class Device(Protocol):
    """One device. Every call is made inside ``current()``."""

    @property
    def name(self) -> str:
        """``"cuda:0"``."""

    def current(self) -> AbstractContextManager[None]:
        """Make the device's context that of this thread."""

    def allocate(self, length: int) -> Allocation:
        """Take device memory.

        Raises:
            DeviceMemoryError: There is not enough.
        """

    def pinned(self, length: int) -> Bytes:
        """Take page-locked host memory."""

    def stream(self) -> Stream:
        """Make a stream."""

    def give_back(self) -> None:
        """Return memory that was freed here, and is kept for reuse, to the driver."""


@cache
def open_device(index: int) -> Device:
    """The device of a number, one object for the whole process.

    Raises:
        BackendUnavailableError: There is no such device, or pycuda is not installed.
    """
    cuda_driver.require_device(f"cuda:{index}")
    return PycudaDevice(index)


def import_pycuda() -> Any:
    """Import ``pycuda.driver``.

    Raises:
        BackendUnavailableError: It is not installed or does not load.
    """
    try:
        return importlib.import_module("pycuda.driver")
    except Exception as error:  # a build for another CUDA fails in a way of its own
        raise BackendUnavailableError(
            "pycuda",
            reason=f"it cannot be imported ({error})",
            remedy="Install it: pip install pycuda (it is compiled, with the CUDA toolkit).",
        ) from error


class PycudaDevice:
    """A device by pycuda. Freed memory is kept in a pool: the driver's own functions are slow."""

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.driver: Any = import_pycuda()
        self.driver.init()
        self._context = self.driver.Device(index).retain_primary_context()
        with self.current():
            self._pool = importlib.import_module("pycuda.tools").DeviceMemoryPool()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device's context that of this thread."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, length: int) -> Allocation:
        """Take device memory from the pool."""
        try:
            return _Pooled(self._pool.allocate(max(length, 1)), length)
        except self.driver.MemoryError as error:
            raise DeviceMemoryError(
                f"{self.name} has no {length / 2**20:.0f} MiB of memory left."
            ) from error

    def pinned(self, length: int) -> Bytes:
        """Take page-locked host memory."""
        taken: Bytes = self.driver.pagelocked_empty(length, np.uint8)
        return taken

    def stream(self) -> Stream:
        """Make a stream."""
        return _PycudaStream(self.driver)

    def give_back(self) -> None:
        """Return what the pool holds to the driver."""
        self._pool.free_held()


class _Pooled:
    """Memory of the pool, to which it goes back when this is dropped."""

    def __init__(self, memory: Any, length: int) -> None:
        self._memory = memory
        self.address = int(memory)
        self.length = length


class _PycudaStream:
    """A stream by pycuda; what pycuda lacks is asked of the driver's library."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._stream = driver.Stream()
        self._library = ctypes.CDLL(cuda_driver.LIBRARY)

    @property
    def handle(self) -> int:
        """The driver's handle."""
        return int(self._stream.handle)

    def upload(self, address: int, source: Bytes) -> None:
        """Copy page-locked bytes to the device."""
        self._driver.memcpy_htod_async(address, source, self._stream)

    def download(self, target: Bytes, address: int) -> None:
        """Copy from the device to page-locked bytes."""
        self._driver.memcpy_dtoh_async(target, address, self._stream)

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy between two addresses on the device."""
        self._driver.memcpy_dtod_async(target, source, length, self._stream)

    def wait_for(self, handle: int) -> None:
        """Do what follows after all that is now in another stream."""
        # pycuda's events do not tell their handle, and are recorded in pycuda's streams alone.
        event, library = ctypes.c_void_p(), self._library
        self._check(library.cuEventCreate(ctypes.byref(event), _NO_TIMING))
        try:
            self._check(library.cuEventRecord(event, ctypes.c_void_p(handle)))
            self._check(library.cuStreamWaitEvent(ctypes.c_void_p(self.handle), event, 0))
        finally:
            library.cuEventDestroy_v2(event)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` puts into this stream as a CUDA graph."""
        stream, library = ctypes.c_void_p(self.handle), self._library
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(library.cuStreamBeginCapture_v2(stream, _CAPTURE_THIS_THREAD))
        try:
            work()
        finally:
            # Ended also after an error: a stream that goes on recording does nothing else.
            ended = library.cuStreamEndCapture(stream, ctypes.byref(graph))
        self._check(ended)
        try:
            flags = ctypes.c_ulonglong(0)
            self._check(library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, flags))
        finally:
            library.cuGraphDestroy(graph)
        return _RecordedGraph(self._check, library, executable, stream)

    def synchronise(self) -> None:
        """Wait until everything is done."""
        self._stream.synchronize()

    @staticmethod
    def _check(result: int) -> None:
        if result:
            raise BackendError(
                f"the CUDA driver answers with error {result}. Load the model again."
            )


class _RecordedGraph:
    """A CUDA graph, destroyed when this is dropped."""

    def __init__(
        self,
        check: Callable[[int], None],
        library: Any,
        executable: ctypes.c_void_p,
        stream: ctypes.c_void_p,
    ) -> None:
        self._check, self._library = check, library
        self._executable, self._stream = executable, stream

    def __call__(self) -> None:
        self._check(self._library.cuGraphLaunch(self._executable, self._stream))

    def __del__(self) -> None:
        self._library.cuGraphExecDestroy(self._executable)
