"""An execution slot of an engine: a stream, an execution context, and buffers that only grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fastseg.backends.tensorrt.engine import Engine
from fastseg.contract import Array
from fastseg.cuda.arrays import DeviceArray
from fastseg.cuda.device import Allocation, Bytes, Device

ALIGNMENT = 256
"""TensorRT requires it of every address."""

_SCRATCH = "working memory"
"""Its name among the buffers; no tensor has this name."""

_MOST_HELD = 16
"""Objects that are kept alive for the stream before the host waits for it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One run of the engine: its profile, shapes and addresses."""

    profile: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    """Shape of every input, by name."""

    addresses: tuple[tuple[str, int], ...]
    """Address of every input and output, by name."""


class ExecutionSlot:
    """The stream, context and buffers that one call at a time uses.

    A call has a slot to itself while it enqueues its work. The next one may come before the device
    has finished: it is enqueued behind it, and the host waits only to overwrite bytes that are not
    uploaded yet, or for memory that must grow.
    """

    def __init__(self, device: Device, engine: Engine) -> None:
        self.stream = device.stream()
        self._device = device
        self._context = engine.context(self.stream)
        self._records = engine.records
        self._buffers: dict[str, Allocation] = {}
        self._pinned: dict[str, Bytes] = {}
        self._uploading: set[str] = set()
        """Names whose page-locked bytes may not be uploaded yet."""

        self._held: list[object] = []
        """Objects that the stream may still use, and that may have no other reference."""

        self._last: Launch | None = None
        """The launch that the context is set to."""

        self._recorded: Callable[[], None] | None = None
        """The last launch as a CUDA graph. There is only one: a graph is valid only as long as the
        context that it was captured from does not change."""

    def begin(self) -> None:
        """Release what earlier calls needed, if the device has finished with it."""
        if len(self._held) > _MOST_HELD:
            self.wait()
        elif self.stream.is_done():
            self._release()

    def keep_alive(self, *objects: object) -> None:
        """Keep objects alive until the stream has finished its present work."""
        self._held += objects

    def wait(self) -> None:
        """Wait until the stream has finished all its work."""
        self.stream.synchronise()
        self._release()

    def address_of(self, name: str, array: Array | DeviceArray) -> int:
        """Return the aligned device address of an input, which is copied there if necessary."""
        if isinstance(array, DeviceArray):
            if array.address % ALIGNMENT == 0:
                return array.address
            address = self.reserve(name, array.nbytes)
            self.stream.copy(address, array.address, array.nbytes)
            return address
        source = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        address = self.reserve(name, source.nbytes)
        if name in self._uploading:
            self.wait()
        pinned = self._host_buffer(name, source.nbytes)
        pinned[:] = source
        self.stream.upload(address, pinned)
        self._uploading.add(name)
        return address

    def reserve(self, name: str, length: int) -> int:
        """Return the address of the buffer of a name, with at least ``length`` bytes.

        Raises:
            DeviceMemoryError: The device has not enough left.
        """
        held = self._buffers.get(name)
        if held is None or held.length < length:
            # Work that uses the old buffer ends first. The buffer is freed before the new one is
            # allocated, so that the two need not fit together, and with it the CUDA graph, which
            # may contain its address.
            self._invalidate()
            self.wait()
            held = None
            self._buffers.pop(name, None)
            held = self._buffers[name] = self._device.allocate(length)
        return held.address

    def run(self, launch: Launch) -> None:
        """Enqueue one run of the engine in the stream.

        Raises:
            DeviceMemoryError: The working memory does not fit.
            BackendError: The runtime refuses the launch.
        """
        if launch != self._last:
            self._invalidate()
            length = self._context.prepare(launch.profile, dict(launch.shapes))
            scratch = self.reserve(_SCRATCH, max(length, ALIGNMENT))
            self._context.bind(dict(launch.addresses), (scratch, max(length, ALIGNMENT)))
            self._context.enqueue()
            self._last = launch
        elif not self._records:
            self._context.enqueue()
        else:
            # A launch that repeats is likely to repeat often. The first one, which is not captured,
            # lets the runtime prepare for these shapes.
            self._recorded = self._recorded or self.stream.record(self._context.enqueue)
            self._recorded()

    def download(self, outputs: Mapping[str, tuple[int, Array]]) -> None:
        """Copy outputs from their addresses to dense host arrays, after all work in the stream."""
        for name, (address, target) in outputs.items():
            self.stream.download(self._host_buffer(name, target.nbytes), address)
        self.wait()
        for name, (_, target) in outputs.items():
            target.reshape(-1).view(np.uint8)[:] = self._host_buffer(name, target.nbytes)

    def free(self) -> None:
        """Free every buffer and the CUDA graph, after all work in the stream.

        Raises:
            BackendError: Some of the work failed; all is freed nevertheless.
        """
        try:
            self._invalidate()
            self.wait()
        finally:
            self._release()
            self._buffers.clear()
            self._pinned.clear()

    def _invalidate(self) -> None:
        """Release the CUDA graph, which may be running: something that it depends on changes."""
        if self._recorded is not None:
            self.keep_alive(self._recorded)
        self._last = self._recorded = None

    def _release(self) -> None:
        """Release what the stream, whose work is finished, needed."""
        self._held.clear()
        self._uploading.clear()

    def _host_buffer(self, name: str, length: int) -> Bytes:
        """Return the first ``length`` bytes of the page-locked buffer of a name."""
        held = self._pinned.get(name)
        if held is None or len(held) < length:
            held = self._pinned[name] = self._device.pinned(length)
        return held[:length]
