"""One lane of an engine: a stream, an execution context, and buffers that only ever grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fastseg.backends.tensorrt.engine import Engine
from fastseg.contract import Array
from fastseg.cuda.arrays import DeviceArray
from fastseg.cuda.device import Allocation, Bytes, Device

ALIGNMENT = 256
"""TensorRT asks for it of every address that it is given."""

_SCRATCH = "working memory"
"""Its name among the buffers; no tensor is called so."""

_MOST_HELD = 16
"""Things that may wait for the stream to be done with them before the host waits for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One piece of work: the shapes that it has, and where its arrays are."""

    profile: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    """Of every input, by name."""

    addresses: tuple[tuple[str, int], ...]
    """Of every input and output, by name."""


class Lane:
    """What one call at a time works in.

    A call has a lane to itself while it puts its work into the stream. The next one may come before
    the device has done that: it is put behind it, and the host waits only to overwrite what has
    not been uploaded yet, or for memory that must grow.
    """

    def __init__(self, device: Device, engine: Engine) -> None:
        self.stream = device.stream()
        self._device = device
        self._context = engine.context(self.stream)
        self._records = engine.records
        self._buffers: dict[str, Allocation] = {}
        self._pinned: dict[str, Bytes] = {}
        self._uploading: set[str] = set()
        """Names whose page-locked bytes may still be on their way."""

        self._held: list[object] = []
        """What the stream may still use, and nobody else may refer to."""

        self._last: Call | None = None
        """What the context is set to."""

        self._launch: Callable[[], None] | None = None
        """The last call as a recorded graph. There is never another: a graph is good only as long
        as nothing changes the context that it was recorded from."""

    def begin(self) -> None:
        """Let go of what the calls before needed, as far as the device is done with it."""
        if len(self._held) > _MOST_HELD:
            self.wait()
        elif self.stream.is_done():
            self._settle()

    def hold(self, *things: object) -> None:
        """Keep things alive until the stream is done with what is in it now."""
        self._held += things

    def wait(self) -> None:
        """Wait until everything in the stream is done."""
        self.stream.synchronise()
        self._settle()

    def place(self, name: str, array: Array | DeviceArray) -> int:
        """Address of an input on the device; brought there, or to a multiple of 256, if need be."""
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
        """Address of the buffer of a name, which has at least ``length`` bytes.

        Raises:
            DeviceMemoryError: The device has not enough left.
        """
        held = self._buffers.get(name)
        if held is None or held.length < length:
            # Work that still uses the old one ends first. It is dropped before the new one is
            # taken, so that the two need not fit beside each other, and with it the recorded
            # graph, which may have its address in it.
            self._change()
            self.wait()
            held = None
            self._buffers.pop(name, None)
            held = self._buffers[name] = self._device.allocate(length)
        return held.address

    def run(self, call: Call) -> None:
        """Put one piece of work into the stream.

        Raises:
            DeviceMemoryError: The working memory does not fit.
            BackendError: The runtime refuses the call.
        """
        if call != self._last:
            self._change()
            length = self._context.prepare(call.profile, dict(call.shapes))
            scratch = self.reserve(_SCRATCH, max(length, ALIGNMENT))
            self._context.bind(dict(call.addresses), (scratch, max(length, ALIGNMENT)))
            self._context.enqueue()
            self._last = call
        elif not self._records:
            self._context.enqueue()
        else:
            # What comes twice will come often. The first time, which was not recorded, the
            # runtime has settled on these shapes.
            self._launch = self._launch or self.stream.record(self._context.enqueue)
            self._launch()

    def fetch(self, outputs: Mapping[str, tuple[int, Array]]) -> None:
        """Bring outputs from their addresses to dense host arrays, after all work in the stream."""
        for name, (address, target) in outputs.items():
            self.stream.download(self._host_buffer(name, target.nbytes), address)
        self.wait()
        for name, (_, target) in outputs.items():
            target.reshape(-1).view(np.uint8)[:] = self._host_buffer(name, target.nbytes)

    def forget(self) -> None:
        """Drop every buffer and the recorded graph, when everything in the stream is done.

        Raises:
            BackendError: Something of it failed; all is dropped nevertheless.
        """
        try:
            self._change()
            self.wait()
        finally:
            self._settle()
            self._buffers.clear()
            self._pinned.clear()

    def _change(self) -> None:
        """Let go of the recorded graph, which may be at work: something it relies on changes."""
        if self._launch is not None:
            self.hold(self._launch)
        self._last = self._launch = None

    def _settle(self) -> None:
        """Everything in the stream is done."""
        self._held.clear()
        self._uploading.clear()

    def _host_buffer(self, name: str, length: int) -> Bytes:
        """The first ``length`` bytes of the page-locked buffer of a name."""
        held = self._pinned.get(name)
        if held is None or len(held) < length:
            held = self._pinned[name] = self._device.pinned(length)
        return held[:length]
