"""An array in device memory as TensorRT needs it: dense, and known by its address."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastseg.errors import BackendError


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A dense array on a CUDA device, row by row; anybody's, by ``__cuda_array_interface__``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int
    owner: Any
    """What keeps the memory alive as long as this."""

    stream: int | None = None
    """Stream in which it is being made: 1 and 2 are the default ones; None if it is ready."""

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, first: int, end: int) -> DeviceView:
        """Some of it along the first axis, without a copy."""
        step = math.prod(self.shape[1:]) * self.dtype.itemsize
        shape = (end - first, *self.shape[1:])
        return replace(self, shape=shape, address=self.address + first * step)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the interface that torch, CuPy, Numba and pycuda share."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.stream,
            "version": 3,
        }

    @classmethod
    def of(cls, array: Any, name: str) -> DeviceView:
        """View an array of another library without a copy.

        Args:
            array: Anything with ``__cuda_array_interface__``.
            name: What it is, for errors.

        Raises:
            BackendError: Its elements are not dense, or it is masked.
        """
        if isinstance(array, cls):
            return array
        interface = array.__cuda_array_interface__
        shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides")
        if strides is not None and tuple(strides) != _dense(shape, dtype.itemsize):
            raise BackendError(f"{name} has gaps between its elements. Give a contiguous array.")
        if interface.get("mask") is not None:
            raise BackendError(f"{name} is masked. Give an array without a mask.")
        # Before version 3 nobody says which stream: it is then the default one.
        stream = interface.get("stream", 1) if interface["version"] >= 3 else 1
        return cls(shape, dtype, int(interface["data"][0]), array, stream)


def is_on_device(array: Any) -> bool:
    """Whether an array lives on a CUDA device."""
    return hasattr(array, "__cuda_array_interface__")


def _dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides, step = [], itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
