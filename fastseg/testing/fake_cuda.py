"""A CUDA device and an engine that are not there: memory, streams and calls in plain NumPy.

The fake is strict where a GPU is merciful by chance: work happens only when a stream is waited for,
memory that was not written is noise, and whatever is done outside of the device's context, or to
memory that was freed, raises.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from fastseg.backends.cuda_device import Bytes
from fastseg.backends.declared import Declared
from fastseg.contract import Array, Graph, Tensor
from fastseg.errors import DeviceMemoryError

_NOISE = 0xA5


class FakeCuda:
    """A device with its memory in a dictionary.

    Args:
        memory_bytes: How much there is.
    """

    name = "cuda:0"

    def __init__(self, memory_bytes: int = 2**40) -> None:
        self.memory_bytes = memory_bytes
        self.blocks: dict[int, NDArray[np.uint8]] = {}
        self.streams: dict[int, FakeStream] = {}
        self.most_bytes = 0
        """Most memory that was taken at a time."""

        self._addresses = itertools.count(1)
        self._inside = threading.local()
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Memory that is taken now."""
        return sum(block.nbytes for block in self.blocks.values())

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device's context that of this thread."""
        self._inside.depth = getattr(self._inside, "depth", 0) + 1
        try:
            yield
        finally:
            self._inside.depth -= 1

    def allocate(self, length: int) -> FakeAllocation:
        """Take memory, full of noise."""
        self.check_current()
        with self._lock:
            if self.used_bytes + length > self.memory_bytes:
                raise DeviceMemoryError(f"{self.name} has no {length} bytes of memory left.")
            address = next(self._addresses) << 40
            self.blocks[address] = np.full(length, _NOISE, np.uint8)
            self.most_bytes = max(self.most_bytes, self.used_bytes)
        return FakeAllocation(self.blocks, address, length)

    def pinned(self, length: int) -> Bytes:
        """Take host memory."""
        self.check_current()
        return np.full(length, _NOISE, np.uint8)

    def stream(self) -> FakeStream:
        """Make a stream."""
        self.check_current()
        stream = FakeStream(self, 3 + len(self.streams))
        self.streams[stream.handle] = stream
        return stream

    def give_back(self) -> None:
        """Nothing is kept for reuse here."""
        self.check_current()

    def check_current(self) -> None:
        """Raise unless the device's context is that of this thread."""
        if not getattr(self._inside, "depth", 0):
            raise AssertionError("the device was used outside of its context")

    def at(self, address: int, length: int) -> NDArray[np.uint8]:
        """Memory from an address on; raises where none is taken."""
        block, offset = self.blocks[address >> 40 << 40], address % 2**40
        if offset + length > len(block):
            raise AssertionError("memory was used beyond its end")
        return block[offset : offset + length]

    def array(self, array: Array) -> FakeDeviceArray:
        """Put an array on the device, as another library would."""
        with self.current():
            allocation = self.allocate(max(array.nbytes, 1))
        self.at(allocation.address, array.nbytes)[:] = _bytes(array)
        return FakeDeviceArray(self, allocation, array.shape, array.dtype)

    def read(self, array: object) -> Array:
        """What an array on the device holds."""
        interface = array.__cuda_array_interface__  # type: ignore[attr-defined]
        dtype, shape = np.dtype(interface["typestr"]), interface["shape"]
        length = int(np.prod(shape)) * dtype.itemsize
        held: Array = self.at(interface["data"][0], length).view(dtype).reshape(shape).copy()
        return held


class FakeAllocation:
    """Memory that is freed when this is dropped."""

    def __init__(self, blocks: dict[int, NDArray[np.uint8]], address: int, length: int) -> None:
        self.address = address
        self.length = length
        weakref.finalize(self, blocks.pop, address)


class FakeDeviceArray:
    """An array of another library, known by its ``__cuda_array_interface__`` alone."""

    def __init__(
        self, device: FakeCuda, memory: FakeAllocation, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self._memory = memory
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (memory.address, False),
            "strides": None,
            "stream": 1,
            "version": 3,
        }
        self.device = device


class FakeStream:
    """Work that is done when somebody waits for it."""

    def __init__(self, device: FakeCuda, handle: int) -> None:
        self.device = device
        self.handle = handle
        self.waited_for: list[int] = []
        self.launches = 0
        """How often recorded work was launched."""

        self._work: list[Callable[[], None]] = []

    def upload(self, address: int, source: Bytes) -> None:
        """Copy to the device."""
        self.put(lambda: _copy(self.device.at(address, len(source)), source))

    def download(self, target: Bytes, address: int) -> None:
        """Copy from the device."""
        self.put(lambda: _copy(target, self.device.at(address, len(target))))

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy on the device."""
        self.put(lambda: _copy(self.device.at(target, length), self.device.at(source, length)))

    def wait_for(self, handle: int) -> None:
        """Note that another stream was waited for."""
        self.device.check_current()
        self.waited_for.append(handle)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Keep what ``work`` puts into this stream instead of doing it."""
        before, self._work = self._work, []
        work()
        recorded, self._work = self._work, before

        def launch() -> None:
            self.launches += 1
            for one in recorded:
                self.put(one)

        return launch

    def synchronise(self) -> None:
        """Do everything."""
        self.device.check_current()
        work, self._work = self._work, []
        for one in work:
            one()

    def put(self, work: Callable[[], None]) -> None:
        """Put work into the stream."""
        self.device.check_current()
        self._work.append(work)


class FakeEngine:
    """An engine whose network is a function of NumPy arrays.

    Args:
        graph: What it takes and gives.
        function: Computes the outputs from the inputs, by name.
        scratch_bytes: Working memory for each row of a call.
        records: Whether its work may be recorded.
    """

    def __init__(
        self,
        graph: Graph,
        function: Callable[[Mapping[str, Array]], Mapping[str, Array]],
        *,
        device: FakeCuda,
        scratch_bytes: int = 0,
        records: bool = True,
    ) -> None:
        self.graph = graph
        self.function = function
        self.device = device
        self.scratch_bytes = scratch_bytes
        self.records = records
        self.inputs = [_declared(one) for one in graph.inputs]
        self.outputs = [_declared(one) for one in graph.outputs]
        self.contexts: list[FakeContext] = []
        self.kept = 0
        """How often it was asked to keep what it compiled."""

    def context(self, stream: FakeStream) -> FakeContext:
        """Make an execution context."""
        self.device.check_current()
        context = FakeContext(self, stream)
        self.contexts.append(context)
        return context

    def keep_kernels(self) -> None:
        """Count the call."""
        self.kept += 1


class FakeContext:
    """Runs the function of an engine on the memory of its device."""

    def __init__(self, engine: FakeEngine, stream: FakeStream) -> None:
        self.engine = engine
        self.stream = stream
        self.calls: list[tuple[int, dict[str, tuple[int, ...]]]] = []
        """Profile and shapes of each call that was put into a stream, or recorded."""

        self._profile = 0
        self._shapes: Mapping[str, tuple[int, ...]] = {}
        self._addresses: Mapping[str, int] = {}
        self._scratch = (0, 0)

    def prepare(self, profile: int, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Take shapes."""
        self._profile, self._shapes = profile, shapes
        return self.engine.scratch_bytes * max(shape[0] for shape in shapes.values())

    def bind(self, addresses: Mapping[str, int], scratch: tuple[int, int]) -> None:
        """Take addresses."""
        if any(address % 256 for address in (*addresses.values(), scratch[0])):
            raise AssertionError("an address is not a multiple of 256")
        self._addresses, self._scratch = addresses, scratch

    def enqueue(self) -> None:
        """Put the call into the stream."""
        self.calls.append((self._profile, dict(self._shapes)))
        shapes, addresses, scratch = self._shapes, self._addresses, self._scratch
        self.stream.put(lambda: self._compute(shapes, addresses, scratch))

    def _compute(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        addresses: Mapping[str, int],
        scratch: tuple[int, int],
    ) -> None:
        device, graph = self.engine.device, self.engine.graph
        device.at(*scratch)[:] = _NOISE
        inputs = {}
        for one in graph.inputs:
            length = int(np.prod(shapes[one.name])) * np.dtype(one.dtype).itemsize
            found = device.at(addresses[one.name], length).view(one.dtype)
            inputs[one.name] = found.reshape(shapes[one.name])
        for name, output in self.engine.function(inputs).items():
            _copy(device.at(addresses[name], output.nbytes), _bytes(output))


def _declared(tensor: Tensor) -> Declared:
    shape = tuple(None if isinstance(size, str) else size for size in tensor.shape)
    return Declared(frozenset({tensor.name}), tensor.dtype, shape)


def _bytes(array: Array) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _copy(target: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
    target[:] = source
