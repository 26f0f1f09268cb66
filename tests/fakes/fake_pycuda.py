"""Fakes of pycuda and the driver's library for devices, memory and streams, noting every call."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np


class PycudaError(Exception):
    """``pycuda.driver.Error``."""


class PycudaMemoryError(PycudaError):
    """``pycuda.driver.MemoryError``."""


class FakePool:
    """``pycuda.tools.DeviceMemoryPool``."""

    def __init__(self, world: FakePycuda) -> None:
        self.world = world
        world.pools.append(self)
        self.held = 0

    def allocate(self, length: int) -> Any:
        if self.world.free_bytes < length:
            raise PycudaMemoryError("cuMemAlloc failed: out of memory")
        self.world.free_bytes -= length
        self.world.next_address += 256
        return self.world.next_address

    def free_held(self) -> None:
        self.world.told.append(("free_held", self.world.pools.index(self)))
        self.world.free_bytes += self.held
        self.held = 0


class FakePycudaStream:
    """``pycuda.driver.Stream``."""

    def __init__(self, world: FakePycuda, flags: int) -> None:
        world.streams += 1
        self.handle, self.flags, self._world = 100 + world.streams, flags, world

    def is_done(self) -> bool:
        self.synchronize()
        return True

    def synchronize(self) -> None:
        if self._world.fails == "stream":
            raise PycudaError("an illegal memory access was encountered")


class FakePycuda:
    """Both modules and the library; ``fails`` names the call that fails."""

    def __init__(self, free_bytes: int = 2**20) -> None:
        self.free_bytes = free_bytes
        self.fails: str | None = None
        self.told: list[tuple[Any, ...]] = []
        """Calls of the driver's library, in order, each with its plain numbers."""
        self.pools: list[FakePool] = []
        self.next_address = self.streams = self.depth = 0
        context = SimpleNamespace(push=lambda: self._enter(1), pop=lambda: self._enter(-1))
        self.driver = SimpleNamespace(
            init=lambda: None,
            Device=lambda index: SimpleNamespace(retain_primary_context=lambda: context),
            Stream=lambda flags: FakePycudaStream(self, flags),
            Error=PycudaError,
            MemoryError=PycudaMemoryError,
            pagelocked_empty=np.zeros,
            memcpy_htod_async=lambda *told: self.told.append(("up", *told[:1])),
            memcpy_dtoh_async=lambda *told: self.told.append(("down", *told[1:2])),
            memcpy_dtod_async=lambda *told: self.told.append(("copy", *told[:3])),
        )
        self.tools = SimpleNamespace(DeviceMemoryPool=lambda: FakePool(self))

    def _enter(self, by: int) -> None:
        self.depth += by

    def __getattr__(self, name: str) -> Any:
        """Return a function of the library: handles that it makes are 1000 and up."""
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            numbers = []
            for one in arguments:
                made = getattr(one, "_obj", None)
                if made is not None:
                    made.value = 1000 + len(self.told)
                number = made if made is not None else one
                numbers.append(number.value if isinstance(number, ctypes._SimpleCData) else number)
            self.told.append((name, *numbers))
            return 700 if self.fails == name else 0

        return call
