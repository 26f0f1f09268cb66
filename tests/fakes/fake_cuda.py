"""A fake CUDA device: memory and streams in plain NumPy.

The fake is strict where a GPU is merciful by chance: work happens only when a stream is waited for,
memory that was not written is noise, and what was dropped is somebody else's at once. Whatever is
done outside of the device's context, beyond the end of memory, or to memory that other work may be
using with nothing to order the two, raises.
"""

from __future__ import annotations

import bisect
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.contract import Array
from fastseg.cuda.device import Bytes
from fastseg.errors import DeviceMemoryError
from tests.fakes.work_order import HOST, Moment, Order, Range

NOISE = 0xA5
_DEFAULT_STREAM, _READER = 1, 2
_FIRST_STREAM = 3
_ALIGNMENT = 256


_Work: TypeAlias = tuple[Callable[[], None], list[Range], list[Range]]
"""A function, the memory that it reads, and the memory that it writes."""


@dataclass(frozen=True, slots=True)
class _Block:
    address: int
    length: int
    stream: int | None


class FakeCuda:
    """A device whose memory is the host's.

    Args:
        memory_bytes: How much there is.
    """

    name = "cuda:0"

    def __init__(self, memory_bytes: int = 2**40) -> None:
        self.memory_bytes = memory_bytes
        self.streams: dict[int, FakeStream] = {}
        """Streams of this device, by handle."""

        self.most_bytes = 0
        """Peak of the allocated memory in bytes."""

        self._memory: dict[int, NDArray[np.uint8]] = {}
        self._places: list[int] = []
        self._taken: dict[int, _Block] = {}
        self._free: dict[tuple[int | None, int], list[_Block]] = defaultdict(list)
        self._dropped: deque[int] = deque()
        self._order = Order()
        self._pending: list[tuple[Moment, Callable[[], None]]] = []
        self._inside = threading.local()
        self._lock = threading.RLock()

    @property
    def used_bytes(self) -> int:
        """Bytes that are allocated now."""
        with self._lock:
            self._collect()
            return sum(block.length for block in self._taken.values())

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device's context that of this thread."""
        self._inside.depth = getattr(self._inside, "depth", 0) + 1
        try:
            yield
        finally:
            self._inside.depth -= 1

    def allocate(self, length: int, stream: int | None = None) -> FakeAllocation:
        """Allocate memory: the last freed block if reusable, else a new one full of noise."""
        self.check_current()
        with self._lock:
            if self.used_bytes + length > self.memory_bytes:
                raise DeviceMemoryError(f"{self.name} has no {length} bytes of memory left.")
            free = self._free[stream, length]
            block = free.pop() if free else self._new(length, stream)
            if self._order.is_idle(block.address, length):
                self._memory[block.address][:] = NOISE
            self._taken[block.address] = block
            self.most_bytes = max(self.most_bytes, self.used_bytes)
        return FakeAllocation(block.address, length, self._dropped)

    def pinned(self, length: int) -> Bytes:
        """Allocate host memory."""
        self.check_current()
        return np.full(length, NOISE, np.uint8)

    def stream(self) -> FakeStream:
        """Make a stream."""
        self.check_current()
        stream = FakeStream(self, _FIRST_STREAM + len(self.streams))
        self.streams[stream.handle] = stream
        return stream

    def order(self, before: int, after: int) -> None:
        """Let further work of a stream wait for all work that another one has now."""
        self.check_current()
        with self._lock:
            self._order.wait(before, after)
        if after in self.streams:
            self.streams[after].waited_for.append(before)

    def give_back(self) -> None:
        """Do nothing: freed memory is kept, and not counted."""
        self.check_current()

    def check_current(self) -> None:
        """Raise unless the device's context is that of this thread."""
        if not getattr(self._inside, "depth", 0):
            raise AssertionError("the device was used outside of its context")

    def put(
        self, stream: int, work: Callable[[], None], reads: list[Range], writes: list[Range]
    ) -> None:
        """Submit work that uses some memory to a stream."""
        self.check_current()
        with self._lock:
            self._pending.append((self._order.put(stream, reads, writes), work))

    def is_done(self, stream: int) -> bool:
        """Tell whether a stream has no work left."""
        with self._lock:
            return all(moment.stream != stream for moment, _ in self._pending)

    def wait_for(self, stream: int) -> None:
        """Do all work of a stream, and the work that it waits for, and nothing else."""
        self.check_current()
        with self._lock:
            clock = self._order.clock(stream)
            due = [one for one in self._pending if one[0].comes_before(clock)]
            self._pending = [one for one in self._pending if not one[0].comes_before(clock)]
            for _, work in due:
                work()
            self._order.wait(stream, HOST)

    def at(self, address: int, length: int) -> NDArray[np.uint8]:
        """Return the memory from an address on; raise where there is none."""
        found = self.block_of(address)
        if found is None or address + length > found[0] + found[1]:
            raise AssertionError("memory was used beyond its end")
        offset = address - found[0]
        return self._memory[found[0]][offset : offset + length]

    def block_of(self, address: int) -> Range | None:
        """Return the allocation that an address lies in; None if it lies in none."""
        with self._lock:
            place = bisect.bisect_right(self._places, address) - 1
            if place < 0:
                return None
            first = self._places[place]
            length = len(self._memory[first])
        return (first, length) if address < first + max(length, 1) else None

    def array(self, array: Array, stream: int | None = _DEFAULT_STREAM) -> FakeDeviceArray:
        """Let another library make an array in a stream of its own; with None it is ready."""
        with self.current():
            memory = self.allocate(max(array.nbytes, 1), stream)
            self.overwrite(memory.address, array, stream or _READER)
            if stream is None:
                self.wait_for(_READER)
        return FakeDeviceArray(self, memory, array, stream)

    def overwrite(self, address: int, array: Array, stream: int) -> None:
        """Let another library write an array somewhere, in a stream of its own."""
        content = as_bytes(array).copy()

        def write() -> None:
            self.at(address, len(content))[:] = content

        with self.current():
            self.put(stream, write, [], [(address, len(content))])

    def read(self, array: object) -> Array:
        """Return an array of the device, read as a library does that knows of no streams."""
        interface = array.__cuda_array_interface__  # type: ignore[attr-defined]
        found: list[Array] = []
        self.start_reading(interface, _READER, found)
        with self.current():
            self.wait_for(_READER)
        return found[0]

    def start_reading(self, interface: dict[str, Any], stream: int, found: list[Array]) -> None:
        """Let another library read an array into ``found``, some time later in a stream."""
        dtype, shape = np.dtype(interface["typestr"]), interface["shape"]
        where = interface["data"][0], int(np.prod(shape)) * dtype.itemsize

        def read() -> None:
            found.append(self.at(*where).view(dtype).reshape(shape).copy())

        with self.current():
            self.put(stream, read, [where], [])

    def _new(self, length: int, stream: int | None) -> _Block:
        """Allocate new memory, whose address is its true one."""
        room = np.full(length + _ALIGNMENT, NOISE, np.uint8)
        skipped = -room.ctypes.data % _ALIGNMENT
        address = room.ctypes.data + skipped
        self._memory[address] = room[skipped : skipped + length]
        bisect.insort(self._places, address)
        return _Block(address, length, stream)

    def _collect(self) -> None:
        while self._dropped:
            block = self._taken.pop(self._dropped.popleft())
            self._free[block.stream, block.length].append(block)


class FakeAllocation:
    """Memory that is freed with this object."""

    def __init__(self, address: int, length: int, dropped: deque[int]) -> None:
        self.address = address
        self.length = length
        weakref.finalize(self, dropped.append, address)


class FakeDeviceArray:
    """An array of another library, known by its ``__cuda_array_interface__`` alone."""

    def __init__(
        self, device: FakeCuda, memory: FakeAllocation, array: Array, stream: int | None
    ) -> None:
        self._memory = memory
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (memory.address, False),
            "strides": None,
            "stream": stream,
            "version": 3,
        }
        self.device = device


class FakeStream:
    """A stream whose work is done when it is waited for."""

    def __init__(self, device: FakeCuda, handle: int) -> None:
        self.device = device
        self.handle = handle
        self.waited_for: list[int] = []
        self.launches = 0
        """Number of launches of recorded work."""

        self._recorded: list[_Work] | None = None

    def upload(self, address: int, source: Bytes) -> None:
        """Copy to the device."""
        self.put(
            lambda: _copy(self.device.at(address, len(source)), source),
            writes=[(address, len(source))],
        )

    def download(self, target: Bytes, address: int) -> None:
        """Copy from the device."""
        self.put(
            lambda: _copy(target, self.device.at(address, len(target))),
            reads=[(address, len(target))],
        )

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy on the device."""
        self.put(
            lambda: _copy(self.device.at(target, length), self.device.at(source, length)),
            reads=[(source, length)],
            writes=[(target, length)],
        )

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` submits to this stream instead of doing it."""
        recorded: list[_Work] = []
        self._recorded = recorded
        try:
            work()
        finally:
            self._recorded = None

        def launch() -> None:
            self.launches += 1
            for one, reads, writes in recorded:
                self.put(one, reads, writes)

        return launch

    def is_done(self) -> bool:
        """Tell whether no work is left."""
        return self.device.is_done(self.handle)

    def synchronise(self) -> None:
        """Do all submitted work."""
        self.device.wait_for(self.handle)

    def put(
        self,
        work: Callable[[], None],
        reads: list[Range] | None = None,
        writes: list[Range] | None = None,
    ) -> None:
        """Submit work that reads and writes this memory of the device."""
        if self._recorded is not None:
            self._recorded.append((work, reads or [], writes or []))
        else:
            self.device.put(self.handle, work, reads or [], writes or [])


def as_bytes(array: Array) -> NDArray[np.uint8]:
    """Return the bytes of an array, row by row."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _copy(target: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
    target[:] = source
