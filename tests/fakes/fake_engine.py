"""A fake engine, whose network is a function of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fastseg.backends.signatures import TensorSignature
from fastseg.contract import Array, GraphSpec, TensorSpec
from tests.fakes.fake_cuda import NOISE, FakeCuda, FakeStream, as_bytes


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
        graph: GraphSpec,
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
        self.inputs = [_signature(one) for one in graph.inputs]
        self.outputs = [_signature(one) for one in graph.outputs]
        self.contexts: list[FakeContext] = []
        self.kept = 0
        """Number of requests to keep compiled kernels."""

    def context(self, stream: FakeStream) -> FakeContext:
        """Create an execution context."""
        self.device.check_current()
        context = FakeContext(self, stream)
        self.contexts.append(context)
        return context

    def keep_kernels(self) -> None:
        """Count the call."""
        self.kept += 1


class FakeContext:
    """An execution context, which runs the function of an engine on the memory of its device."""

    def __init__(self, engine: FakeEngine, stream: FakeStream) -> None:
        self.engine = engine
        self.stream = stream
        self.calls: list[tuple[int, dict[str, tuple[int, ...]]]] = []
        """Profile and shapes of each call that was submitted to a stream, or recorded."""

        self._profile = 0
        self._shapes: Mapping[str, tuple[int, ...]] = {}
        self._addresses: Mapping[str, int] = {}
        self._scratch = (0, 0)

    def prepare(self, profile: int, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Set the shapes of inputs."""
        self._profile, self._shapes = profile, shapes
        return self.engine.scratch_bytes * max(shape[0] for shape in shapes.values())

    def bind(self, addresses: Mapping[str, int], scratch: tuple[int, int]) -> None:
        """Set the addresses of tensors."""
        if any(address % 256 for address in (*addresses.values(), scratch[0])):
            raise AssertionError("an address is not a multiple of 256")
        self._addresses, self._scratch = addresses, scratch

    def enqueue(self) -> None:
        """Submit the call to the stream."""
        self.calls.append((self._profile, dict(self._shapes)))
        shapes, addresses, scratch = self._shapes, self._addresses, self._scratch
        graph = self.engine.graph
        self.stream.put(
            lambda: self._compute(shapes, addresses, scratch),
            reads=[(addresses[one.name], _length(one, shapes[one.name])) for one in graph.inputs],
            writes=[
                scratch,
                *((addresses[one.name], _length(one, self._size(one))) for one in graph.outputs),
            ],
        )

    def _size(self, output: TensorSpec) -> tuple[int, ...]:
        sizes: dict[str, int] = {}
        for one in self.engine.graph.inputs:
            named = zip(one.shape, self._shapes[one.name], strict=True)
            sizes |= {name: size for name, size in named if isinstance(name, str)}
        return tuple(sizes[size] if isinstance(size, str) else size for size in output.shape)

    def _compute(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        addresses: Mapping[str, int],
        scratch: tuple[int, int],
    ) -> None:
        device, graph = self.engine.device, self.engine.graph
        device.at(*scratch)[:] = NOISE
        inputs = {}
        for one in graph.inputs:
            length = _length(one, shapes[one.name])
            found = device.at(addresses[one.name], length).view(one.dtype)
            inputs[one.name] = found.reshape(shapes[one.name])
        for name, output in self.engine.function(inputs).items():
            device.at(addresses[name], output.nbytes)[:] = as_bytes(output)


def _signature(tensor: TensorSpec) -> TensorSignature:
    shape = tuple(None if isinstance(size, str) else size for size in tensor.shape)
    return TensorSignature(frozenset({tensor.name}), tensor.dtype, shape)


def _length(tensor: TensorSpec, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
