"""A CUDA device: memory, streams and recorded graphs, by pycuda in the primary context.

The primary context is the one that torch, CuPy and the CUDA runtime use, so arrays are valid in all
of them. ``Device`` is an interface: tests run on ``tests.fakes.fake_cuda.FakeCuda`` without a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastseg.cuda import driver
from fastseg.environment import CUDA_DRIVER
from fastseg.errors import BackendError, BackendUnavailableError, DeviceMemoryError

Bytes = NDArray[np.uint8]

_NO_TIMING = 2
"""Flag of an event without a time stamp, which is cheaper."""

_NON_BLOCKING = 1
"""Flag of a stream that does not wait for the default stream. Otherwise torch's work there would
interleave with that of fastseg, and fail during a capture."""

_CAPTURE_THIS_THREAD = 1
"""Capture mode in which other threads may allocate memory."""


class Allocation(Protocol):
    """Device memory, freed when the object is dropped."""

    @property
    def address(self) -> int:
        """The device address, a multiple of 256."""

    @property
    def length(self) -> int:
        """Length in bytes, at least what was asked for."""


class Stream(Protocol):
    """A queue of work that the device does in order, asynchronously."""

    @property
    def handle(self) -> int:
        """The driver's handle."""

    def upload(self, address: int, source: Bytes) -> None:
        """Copy page-locked bytes to the device."""

    def download(self, target: Bytes, address: int) -> None:
        """Copy from the device to page-locked bytes."""

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy between two addresses on the device."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture what ``work`` enqueues in this stream as a CUDA graph, without running it.

        Returns:
            A function that launches the graph in this stream.
        """

    def is_done(self) -> bool:
        """Tell whether all work is done.

        Raises:
            BackendError: Some of it failed.
        """

    def synchronise(self) -> None:
        """Wait until all work is done.

        Raises:
            BackendError: Some of it failed.
        """


class Device(Protocol):
    """One device. Calls are made inside ``current()``."""

    @property
    def name(self) -> str:
        """``"cuda:0"``."""

    def current(self) -> AbstractContextManager[None]:
        """Make the device's context current in this thread."""

    def allocate(self, length: int, stream: int | None = None) -> Allocation:
        """Allocate device memory.

        Args:
            length: Length in bytes.
            stream: Handle of the stream that uses it. Memory that is dropped is reused for the same
                stream alone, even while work is running there; its first use must come after the
                work that was in the stream at the allocation. Without a stream it is reused for
                any, so nothing may use it when it is dropped.

        Raises:
            DeviceMemoryError: There is not enough.
        """

    def order(self, before: int, after: int) -> None:
        """Make a stream wait for all work that is now in another one.

        Args:
            before: Handle of the other stream; 1 and 2 are the default streams.
            after: Handle of the stream that waits.
        """

    def wait_for(self, stream: int) -> None:
        """Wait until all work in the stream of a handle is done.

        Raises:
            BackendError: Some of it failed.
        """

    def pinned(self, length: int) -> Bytes:
        """Allocate page-locked host memory."""

    def stream(self) -> Stream:
        """Make a stream."""

    def give_back(self) -> None:
        """Return the memory that is pooled for reuse to the driver."""


@cache
def open_device(index: int) -> Device:
    """Return the device of a number, one object for the process.

    Raises:
        BackendUnavailableError: There is no such device, or pycuda is not installed.
    """
    driver.require_device(f"cuda:{index}")
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
    """A device by pycuda.

    Memory that is dropped goes to pools, one for each stream: the driver's own functions are slow,
    and wait for all work of the device.
    """

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.driver: Any = import_pycuda()
        self.driver.init()
        self._context = self.driver.Device(index).retain_primary_context()
        self._library = ctypes.CDLL(CUDA_DRIVER)
        self._pools: dict[int | None, Any] = {}
        self._lock = threading.Lock()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device's context current in this thread."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, length: int, stream: int | None = None) -> Allocation:
        """Allocate device memory from the pool of a stream, or from the common one."""
        try:
            return self._allocate(length, stream)
        except self.driver.MemoryError:
            self.give_back()  # other pools may hold enough memory
        try:
            return self._allocate(length, stream)
        except self.driver.MemoryError as error:
            raise DeviceMemoryError(
                f"{self.name} has no {length / 2**20:.0f} MiB of memory left."
            ) from error

    def _allocate(self, length: int, stream: int | None) -> Allocation:
        with self._lock:
            if stream not in self._pools:
                pool = importlib.import_module("pycuda.tools").DeviceMemoryPool()
                self._pools[stream] = pool
            pool = self._pools[stream]
        return _Pooled(pool.allocate(max(length, 1)), length)

    def order(self, before: int, after: int) -> None:
        """Make a stream wait for all work that is now in another one."""
        # pycuda's events have no public handle, and are recorded in pycuda's streams alone.
        event, library = ctypes.c_void_p(), self._library
        check(library.cuEventCreate(ctypes.byref(event), _NO_TIMING))
        try:
            check(library.cuEventRecord(event, ctypes.c_void_p(before)))
            check(library.cuStreamWaitEvent(ctypes.c_void_p(after), event, 0))
        finally:
            library.cuEventDestroy_v2(event)

    def wait_for(self, stream: int) -> None:
        """Wait until all work in the stream of a handle is done."""
        check(self._library.cuStreamSynchronize(ctypes.c_void_p(stream)))

    def pinned(self, length: int) -> Bytes:
        """Allocate page-locked host memory."""
        taken: Bytes = self.driver.pagelocked_empty(length, np.uint8)
        return taken

    def stream(self) -> Stream:
        """Make a stream."""
        return _PycudaStream(self.driver, self._library)

    def give_back(self) -> None:
        """Return the memory of the pools to the driver, which waits for work that uses it."""
        with self._lock:
            for pool in self._pools.values():
                pool.free_held()


class _Pooled:
    """Memory of a pool, to which it returns when the object is dropped."""

    def __init__(self, memory: Any, length: int) -> None:
        self._memory = memory
        self.address = int(memory)
        self.length = length


class _PycudaStream:
    """A stream by pycuda; the driver's library is called for what pycuda lacks."""

    def __init__(self, driver: Any, library: Any) -> None:
        self._driver, self._library = driver, library
        self._stream = driver.Stream(_NON_BLOCKING)

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

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture what ``work`` enqueues in this stream as a CUDA graph."""
        stream, library = ctypes.c_void_p(self.handle), self._library
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        check(library.cuStreamBeginCapture_v2(stream, _CAPTURE_THIS_THREAD))
        try:
            work()
        except BaseException:
            # A stream whose capture does not end can do nothing else.
            if library.cuStreamEndCapture(stream, ctypes.byref(graph)) == 0:
                library.cuGraphDestroy(graph)
            raise
        check(library.cuStreamEndCapture(stream, ctypes.byref(graph)))
        try:
            flags = ctypes.c_ulonglong(0)
            check(library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, flags))
        finally:
            library.cuGraphDestroy(graph)
        return _RecordedGraph(library, executable, stream)

    def is_done(self) -> bool:
        """Tell whether all work is done."""
        with self._failing():
            return bool(self._stream.is_done())

    def synchronise(self) -> None:
        """Wait until all work is done."""
        with self._failing():
            self._stream.synchronize()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn errors of earlier work, which are raised when the stream is queried, into ours."""
        try:
            yield
        except self._driver.Error as error:
            raise BackendError(f"the GPU failed: {error}. Start the program again.") from error


def check(result: int) -> None:
    """Raise unless a call to the driver succeeded.

    Raises:
        BackendError: The call failed.
    """
    if result:
        raise BackendError(f"the CUDA driver returned error {result}. Load the model again.")


class _RecordedGraph:
    """A CUDA graph, destroyed when the object is dropped."""

    def __init__(self, library: Any, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> None:
        self._library, self._executable, self._stream = library, executable, stream

    def __call__(self) -> None:
        check(self._library.cuGraphLaunch(self._executable, self._stream))

    def __del__(self) -> None:
        self._library.cuGraphExecDestroy(self._executable)
