"""The backend of TensorRT and TensorRT-RTX: one engine that ``fastseg build`` made, on a device."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.backends.base import Memory
from fastseg.backends.signatures import check_signature
from fastseg.backends.tensorrt.engine import Engine
from fastseg.backends.tensorrt.execution_slot import ALIGNMENT, ExecutionSlot, Launch
from fastseg.backends.tensorrt.optimization_profiles import (
    batch_dimension,
    choose_profile,
    profiles_of,
    sizes_of,
)
from fastseg.contract import Array, GraphSpec, TensorSpec
from fastseg.cuda.arrays import LEGACY_STREAM, DeviceArray, device_array, is_on_device
from fastseg.cuda.device import Device
from fastseg.errors import BackendError, DeviceMemoryError


class TensorRtBackend:
    """One engine on one device.

    A call that is longer than the profiles of the engine, or than the memory of the device allows,
    is split along its first dimension: prompts, survivors, images or frames. Calls from several
    threads have a stream and an execution context each.

    Args:
        engine: The engine, on the device.
        graph: The contract that it must fulfil.
        device: The device that it is on.
        runtime: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        memory: ``"host"`` takes and returns NumPy arrays; ``"cuda"`` returns arrays on the device,
            and takes those of any library that has ``__cuda_array_interface__`` or ``__dlpack__``,
            without a copy. The device may still be computing them: see ``run``.

    Raises:
        ModelFolderError: The engine is not of the graph of the contract.
    """

    def __init__(
        self,
        engine: Engine,
        graph: GraphSpec,
        device: Device,
        *,
        runtime: str,
        memory: Memory = "host",
    ) -> None:
        self.name = f"{runtime}:{device.name}"
        self.graph = graph
        self.memory: Memory = memory
        check_signature(Path(f"{runtime}/{graph.name}"), graph, engine.inputs, engine.outputs)
        self._device = device
        self._engine: Engine | None = engine
        self._profiles = profiles_of(graph)
        self._batch = batch_dimension(graph)
        self._most: int | None = None
        self._lock = threading.Lock()
        self._idle: list[ExecutionSlot] = []
        self._kernels_kept = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see ``Backend.run``.

        The host waits for the device only if it receives the outputs. Outputs that stay on the
        device are ready in the order of the stream of the first input that names one, and their
        memory is reused in that order: they can be used and dropped there without waiting. The
        streams that inputs name wait before they continue, so an input may be overwritten in its
        own stream, or dropped, at once. An input by DLPack, which names the default stream for any
        other, is kept alive, but not protected from being overwritten. If no input names a stream,
        the outputs name one to wait for; until then an input on the device must not change, and an
        output must be dropped only when nothing reads it any more.

        Raises:
            DeviceArrayError: An array lies on another device, or has gaps.
            DeviceMemoryError: The device has too little memory, even for half as many at a time.
        """
        placed: dict[str, Any] = {
            name: device_array(array, name, device=self._device.name)
            if is_on_device(array)
            else array
            for name, array in inputs.items()
        }
        if self._engine is not None and (reason := self.graph.mismatch(placed)) is not None:
            raise BackendError(f"{reason}. Give what the graph's contract asks for.")
        with self._device.current():
            return self._run_or_halve(placed)

    def on_device(self) -> TensorRtBackend:
        """Return a second backend of the same engine, with outputs that stay on the device.

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
            slots, self._idle = self._idle, []
        if engine is not None:
            with self._device.current():
                for slot in slots:
                    with suppress(BackendError):  # of a call whose result is not needed any more
                        slot.free()
                del engine, slots
                self._device.give_back()

    def _run_or_halve(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run, and if memory does not suffice run again with half as much at a time."""
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
        self._free_idle_slots()
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
        sizes, streams = sizes_of(self.graph, inputs), _streams(inputs)
        with self._slot(engine) as slot:
            slot.begin()
            results = {
                one.name: self._result(one, sizes, slot, next(iter(streams), None))
                for one in self.graph.outputs
            }
            if 0 in sizes.values():
                return results
            for stream in streams:
                self._device.order(stream, slot.stream.handle)
            self._run_pieces(slot, inputs, results, sizes.get(self._batch or "", 1))
            if self.memory == "cuda":
                for stream in streams:
                    self._device.order(slot.stream.handle, stream)
                slot.keep_alive(*(one for one in inputs.values() if _is_loose(one)))
                slot.keep_alive(*(() if streams else results.values()))
        return results

    def _run_pieces(
        self, slot: ExecutionSlot, inputs: Mapping[str, Any], results: Mapping[str, Any], count: int
    ) -> None:
        step = self._step(inputs)
        whole = {
            one.name: slot.address_of(one.name, inputs[one.name])
            for one in self.graph.inputs
            if not self._is_cut(one)
        }
        for first in range(0, count, step):
            self._run_piece(slot, inputs, whole, (first, min(first + step, count)), results)

    def _run_piece(
        self,
        slot: ExecutionSlot,
        inputs: Mapping[str, Any],
        whole: Mapping[str, int],
        rows: tuple[int, int],
        results: Mapping[str, Any],
    ) -> None:
        """Run some rows of a call, first to end, and write the outputs into ``results``."""
        pieces = {
            one.name: _rows(inputs[one.name], rows) if self._is_cut(one) else inputs[one.name]
            for one in self.graph.inputs
        }
        addresses = dict(whole)
        for name, piece in pieces.items():
            if name not in whole:
                addresses[name] = slot.address_of(name, piece)
        targets = {
            one.name: _rows(results[one.name], rows) if self._is_cut(one) else results[one.name]
            for one in self.graph.outputs
        }
        for name, target in targets.items():
            direct = isinstance(target, DeviceArray) and target.address % ALIGNMENT == 0
            addresses[name] = target.address if direct else slot.reserve(name, target.nbytes)
        sizes = sizes_of(self.graph, pieces)
        profile, _ = choose_profile(self.graph, self._profiles, sizes)
        shapes = tuple((name, tuple(piece.shape)) for name, piece in pieces.items())
        slot.run(Launch(profile, shapes, tuple(addresses.items())))
        if self.memory == "host":
            slot.download({name: (addresses[name], target) for name, target in targets.items()})
            return
        for name, target in targets.items():
            if target.address != addresses[name]:
                slot.stream.copy(target.address, addresses[name], target.nbytes)

    def _step(self, inputs: Mapping[str, Any]) -> int:
        """Return the number of rows to run at a time."""
        sizes = sizes_of(self.graph, inputs)
        _, most = choose_profile(self.graph, self._profiles, sizes)
        most = min(most, sizes.get(self._batch or "", 1)) or 1
        return most if self._most is None else min(most, self._most)

    def _is_cut(self, tensor: TensorSpec) -> bool:
        return self._batch is not None and self._batch in tensor.shape

    def _result(
        self, tensor: TensorSpec, sizes: Mapping[str, int], slot: ExecutionSlot, stream: int | None
    ) -> Any:
        """Allocate an output of the whole call."""
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in tensor.shape)
        dtype = np.dtype(tensor.dtype)
        if self.memory == "host":
            return np.empty(shape, dtype)
        made_in = slot.stream.handle if stream is None else stream
        memory = self._device.allocate(max(math.prod(shape) * dtype.itemsize, 1), stream)
        return DeviceArray(
            address=memory.address,
            shape=shape,
            dtype=dtype,
            device=self._device.name,
            owner=(memory, slot.stream),  # whose handle it names
            stream=made_in,
            making=_Making(self._device, made_in),
        )

    @contextmanager
    def _slot(self, engine: Engine) -> Iterator[ExecutionSlot]:
        """Take a slot that no other call uses: an idle one, or a new one."""
        with self._lock:
            slot = self._idle.pop() if self._idle else None
        if slot is None:
            slot = ExecutionSlot(self._device, engine)
        try:
            yield slot
        except BaseException:
            with suppress(Exception):
                slot.free()  # its buffers may be what the memory lacks
            raise
        with self._lock:
            if self._engine is not None:
                self._idle.append(slot)
                return
        slot.free()

    def _free_idle_slots(self) -> None:
        with self._lock:
            slots, self._idle = self._idle, []
        for slot in slots:
            slot.free()
        self._device.give_back()

    def _keep_kernels(self, engine: Engine) -> None:
        if not self._kernels_kept:
            self._kernels_kept = True
            engine.keep_kernels()


@dataclass(frozen=True, slots=True)
class _Making:
    """The unfinished work of a stream; see ``cuda.arrays.Making``."""

    device: Device
    made_in: int

    def hold(self, stream: int) -> None:
        """Make another stream wait for it."""
        with self.device.current():
            self.device.order(self.made_in, stream)

    def wait(self) -> None:
        """Make the host wait for it."""
        with self.device.current():
            self.device.wait_for(self.made_in)


def _streams(inputs: Mapping[str, Any]) -> list[int]:
    """List the streams that compute inputs, without repetition."""
    named = [one.stream for one in inputs.values() if isinstance(one, DeviceArray)]
    return [stream for stream in dict.fromkeys(named) if stream is not None]


def _is_loose(array: Any) -> bool:
    """Tell whether an input is on the device, and its owner may reuse its memory without order.

    An owner that passes it by DLPack makes the default stream wait, and works in another one.
    """
    return isinstance(array, DeviceArray) and array.stream in (None, LEGACY_STREAM)


def _rows(array: Any, rows: tuple[int, int]) -> Any:
    return array.part(*rows) if isinstance(array, DeviceArray) else array[slice(*rows)]
