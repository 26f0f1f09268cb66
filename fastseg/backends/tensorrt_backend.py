"""TensorRT and TensorRT-RTX: one backend for both, over engines that ``fastseg build`` made."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.backends.cuda_device import Device
from fastseg.backends.declared import check_declared
from fastseg.backends.engine_profiles import (
    batch_dimension,
    choose_profile,
    profiles_of,
    sizes_of,
)
from fastseg.backends.protocol import Memory
from fastseg.backends.tensorrt_engine import Engine
from fastseg.backends.tensorrt_lane import ALIGNMENT, Call, Lane
from fastseg.contract import Array, Graph, Tensor
from fastseg.device_arrays import DeviceArray, device_array
from fastseg.errors import BackendError, DeviceMemoryError


class TensorRtBackend:
    """One engine on one device.

    A call that is longer than the engine's profiles take, or than the device has memory for, is
    run in pieces along its first dimension: prompts, survivors, images or frames. Calls from
    several threads have a stream and an execution context each.

    Args:
        engine: The engine, on the device.
        graph: What it must take and give.
        device: Where it is.
        runtime: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        memory: ``"host"`` takes and gives NumPy arrays; ``"cuda"`` gives arrays on the device, and
            takes those of any library that has ``__cuda_array_interface__``, without a copy.

    Raises:
        ModelFolderError: The engine is not of the graph of the contract.
    """

    def __init__(
        self, engine: Engine, graph: Graph, device: Device, *, runtime: str, memory: Memory = "host"
    ) -> None:
        self.name = f"{runtime}:{device.name}"
        self.graph = graph
        self.memory: Memory = memory
        check_declared(Path(f"{runtime}/{graph.name}"), graph, engine.inputs, engine.outputs)
        self._device = device
        self._engine: Engine | None = engine
        self._profiles = profiles_of(graph)
        self._batch = batch_dimension(graph)
        self._most: int | None = None
        self._lock = threading.Lock()
        self._idle: list[Lane] = []
        self._kernels_kept = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see ``Backend.run``.

        Raises:
            DeviceArrayError: An array lies on another device, or has gaps.
            DeviceMemoryError: The device has too little memory, even for half as many at a time.
        """
        placed: dict[str, Any] = {
            name: device_array(array, name, device=self._device.name)
            if hasattr(array, "__cuda_array_interface__")
            else array
            for name, array in inputs.items()
        }
        if self._engine is not None and (reason := self.graph.mismatch(placed)) is not None:
            raise BackendError(f"{reason}. Give what the graph's contract asks for.")
        with self._device.current():
            return self._run_or_halve(placed)

    def on_device(self) -> TensorRtBackend:
        """The same engine once more, with outputs that stay on the device.

        Each of the two is closed by itself; the engine is freed when both are.

        Raises:
            BackendError: This one was closed.
        """
        engine = self._engine
        if engine is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        runtime = self.name.partition(":")[0]
        return TensorRtBackend(engine, self.graph, self._device, runtime=runtime, memory="cuda")

    def close(self) -> None:
        """Free the engine and its buffers; harmless when called again."""
        with self._lock:
            engine, self._engine = self._engine, None
            lanes, self._idle = self._idle, []
        if engine is not None:
            with self._device.current():
                for lane in lanes:
                    lane.forget()
                del engine, lanes
                self._device.give_back()

    def _run_or_halve(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run; if memory does not suffice, once more with half as much at a time."""
        # Held here so that a close() from another thread cannot take it away in the middle.
        engine = self._engine
        if engine is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        try:
            outputs = self._run(engine, inputs)
        except DeviceMemoryError as error:
            tried = self._step(inputs)
            if tried < 2:
                raise self._too_large(tried) from error
            self._most = tried // 2
            warnings.warn(
                f"{self.name} has too little memory for {tried} {self._batch} at a time ({error}) "
                f"From now on {self.graph.name} runs {self._most} at a time.",
                RuntimeWarning,
                stacklevel=4,
            )
        else:
            self._keep_kernels(engine)
            return outputs
        self._free_idle_lanes()
        try:
            return self._run(engine, inputs)
        except DeviceMemoryError as error:
            raise self._too_large(self._most) from error

    def _too_large(self, tried: int) -> DeviceMemoryError:
        what = f"with {tried} {self._batch} at a time" if self._batch else "in one call"
        return DeviceMemoryError(
            f"{self.graph.name} does not fit into the memory of {self.name} {what}. Give fewer at "
            'a time, close other programs on this GPU, or use device="cpu".'
        )

    def _run(self, engine: Engine, inputs: Mapping[str, Any]) -> dict[str, Array]:
        sizes = sizes_of(self.graph, inputs)
        results = {one.name: self._result(one, sizes) for one in self.graph.outputs}
        if 0 in sizes.values():
            return results
        count, step = sizes.get(self._batch or "", 1), self._step(inputs)
        with self._lane(engine) as lane:
            for stream in {one.stream for one in inputs.values() if isinstance(one, DeviceArray)}:
                if stream is not None:
                    lane.stream.wait_for(stream)
            whole = {
                one.name: lane.place(one.name, inputs[one.name])
                for one in self.graph.inputs
                if not self._is_cut(one)
            }
            for first in range(0, count, step):
                rows = (first, min(first + step, count))
                self._run_piece(lane, inputs, whole, rows, results)
            lane.stream.synchronise()
        return results

    def _run_piece(
        self,
        lane: Lane,
        inputs: Mapping[str, Any],
        whole: Mapping[str, int],
        rows: tuple[int, int],
        results: Mapping[str, Any],
    ) -> None:
        """Run some rows of a call, first to end, and put what comes out into ``results``."""
        pieces = {
            one.name: _rows(inputs[one.name], rows) if self._is_cut(one) else inputs[one.name]
            for one in self.graph.inputs
        }
        addresses = dict(whole)
        for name, piece in pieces.items():
            if name not in whole:
                addresses[name] = lane.place(name, piece)
        targets = {
            one.name: _rows(results[one.name], rows) if self._is_cut(one) else results[one.name]
            for one in self.graph.outputs
        }
        for name, target in targets.items():
            direct = isinstance(target, DeviceArray) and target.address % ALIGNMENT == 0
            addresses[name] = target.address if direct else lane.reserve(name, target.nbytes)
        sizes = sizes_of(self.graph, pieces)
        profile, _ = choose_profile(self.graph, self._profiles, sizes)
        shapes = tuple((name, tuple(piece.shape)) for name, piece in pieces.items())
        lane.run(Call(profile, shapes, tuple(addresses.items())))
        if self.memory == "host":
            lane.fetch({name: (addresses[name], target) for name, target in targets.items()})
            return
        for name, target in targets.items():
            if target.address != addresses[name]:
                lane.stream.copy(target.address, addresses[name], target.nbytes)
        if not all(isinstance(piece, DeviceArray) for piece in pieces.values()):
            # The next piece is written where this one may still be on its way from.
            lane.stream.synchronise()

    def _step(self, inputs: Mapping[str, Any]) -> int:
        """How many rows run at a time."""
        sizes = sizes_of(self.graph, inputs)
        _, most = choose_profile(self.graph, self._profiles, sizes)
        most = min(most, sizes.get(self._batch or "", 1)) or 1
        return most if self._most is None else min(most, self._most)

    def _is_cut(self, tensor: Tensor) -> bool:
        return self._batch is not None and self._batch in tensor.shape

    def _result(self, tensor: Tensor, sizes: Mapping[str, int]) -> Any:
        """An output of the whole call, not yet filled."""
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in tensor.shape)
        dtype = np.dtype(tensor.dtype)
        if self.memory == "host":
            return np.empty(shape, dtype)
        owner = self._device.allocate(max(math.prod(shape) * dtype.itemsize, 1))
        return DeviceArray(owner.address, shape, dtype, self._device.name, owner)

    @contextmanager
    def _lane(self, engine: Engine) -> Iterator[Lane]:
        """A lane that no other call uses: an idle one, or a new one."""
        with self._lock:
            lane = self._idle.pop() if self._idle else None
        if lane is None:
            lane = Lane(self._device, engine)
        try:
            yield lane
        except BaseException:
            # Its buffers may be what the memory lacks; but first nothing may use them any more.
            with suppress(Exception):
                lane.stream.synchronise()
            lane.forget()
            raise
        with self._lock:
            if self._engine is not None:
                self._idle.append(lane)
                return
        lane.forget()

    def _free_idle_lanes(self) -> None:
        with self._lock:
            lanes, self._idle = self._idle, []
        for lane in lanes:
            lane.forget()
        self._device.give_back()

    def _keep_kernels(self, engine: Engine) -> None:
        if not self._kernels_kept:
            self._kernels_kept = True
            engine.keep_kernels()


def _rows(array: Any, rows: tuple[int, int]) -> Any:
    return array.part(*rows) if isinstance(array, DeviceArray) else array[slice(*rows)]
