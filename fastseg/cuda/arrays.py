"""Arrays in a device's memory, exchanged with other libraries without copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from fastseg.cuda import dlpack
from fastseg.errors import DeviceArrayError

HOST = "host"
"""Device of arrays in the CPU's memory: those of NumPy and of an emulated device."""

LEGACY_STREAM = 1
"""The default stream in both protocols, used when no stream is named."""

_NAMES_STREAM = 3
"""First version of ``__cuda_array_interface__`` that names the stream which makes an array."""


class Making(Protocol):
    """Work in a stream that computes an array."""

    def hold(self, stream: int) -> None:
        """Make another stream, given by its handle, wait for the work."""

    def wait(self) -> None:
        """Wait for the work on the host."""


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """A dense row-major array at an address.

    torch, CuPy, Numba and pycuda take it by ``__dlpack__``, which makes their stream wait until it
    is computed, or by ``__cuda_array_interface__``, for which the host waits, because not every
    library reads the stream there. NumPy takes arrays in host memory by ``__array_interface__``.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: str
    """``"cuda:0"`` or ``HOST``."""

    owner: object = None
    """Object that keeps the memory alive as long as this array."""

    stream: int | None = None
    """Stream that computes it: 1 and 2 are the default ones; None if it is ready."""

    making: Making | None = None
    """Object that waits for ``stream``; None if there is none, or if the array is ready."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def part(self, first: int, end: int) -> DeviceArray:
        """Return a part along the first axis, without a copy."""
        step = math.prod(self.shape[1:]) * self.dtype.itemsize
        return replace(
            self, address=self.address + first * step, shape=(end - first, *self.shape[1:])
        )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.device == HOST:
            raise AttributeError("the array lies in the host's memory")
        if self.making is None:
            return {**self._interface(), "stream": self.stream}
        self.making.wait()
        return {**self._interface(), "stream": None}

    @property
    def __array_interface__(self) -> dict[str, Any]:
        if self.device != HOST:
            raise AttributeError(f"the array lies in the memory of {self.device}")
        return self._interface()

    def _interface(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return kind and number of the device, as DLPack counts them."""
        if self.device == HOST:
            return dlpack.CPU, 0
        return dlpack.CUDA, int(self.device.partition(":")[2])

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Hand the memory over, without a copy.

        Args:
            stream: The stream of the taker, which is made to wait until the array is ready. None
                and 1 are the default one, 2 that of the thread; with -1 the taker waits itself.
            max_version: Ignored; the capsule is unversioned.
            dl_device: The device that the taker wants it on.
            copy: True is refused.

        Raises:
            BufferError: Another device or a copy is asked for, or the array is still being made in
                a stream that the taker's cannot be made to wait for.
        """
        del max_version  # an unversioned capsule suits every taker
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("fastseg hands arrays over where they are, and never as a copy")
        used_in = LEGACY_STREAM if stream is None else stream
        if self.stream is not None and used_in not in (self.stream, -1):
            if self.making is None:
                raise BufferError(
                    f"it is being made in stream {self.stream}; wait for that, or take it there"
                )
            self.making.hold(used_in)
        return dlpack.give(
            dlpack.Content(
                address=self.address,
                shape=self.shape,
                strides=None,
                dtype=self.dtype,
                device=self.__dlpack_device__(),
                owner=self,
            )
        )


def is_on_device(array: Any) -> bool:
    """Check that an array is on a CUDA device, or is a ``DeviceArray`` on any device."""
    if isinstance(array, DeviceArray) or hasattr(array, "__cuda_array_interface__"):
        return True
    if not hasattr(array, "__dlpack_device__"):
        return False
    return bool(array.__dlpack_device__()[0] in (dlpack.CUDA, dlpack.CUDA_MANAGED))


def device_array(
    array: Any,
    name: str,
    *,
    device: str | None = None,
    dtype: DTypeLike | None = None,
    shape: Sequence[int | None] | None = None,
    stream: int | None = None,
) -> DeviceArray:
    """View an array of any library, without a copy.

    Args:
        array: With ``__cuda_array_interface__``, ``__dlpack__`` or ``__array_interface__``.
        name: Name of the argument, for errors.
        device: The device it must be on, ``"cuda:0"`` or ``HOST``; None for any.
        dtype: The dtype it must have; None for any.
        shape: The sizes it must have, each None for any; None for any shape.
        stream: The stream that will use it. A DLPack array is asked to be ready there; of others
            ``DeviceArray.stream`` names the stream to wait for.

    Raises:
        DeviceArrayError: It is on another device, has another dtype or shape or gaps, or is no
            array.
    """
    found = _view(array, name, stream)
    if device is not None and found.device != device:
        raise DeviceArrayError(
            f"{name} lies in the memory of {found.device}, not of {device}. Copy it there first."
        )
    if dtype is not None and found.dtype != np.dtype(dtype):
        raise DeviceArrayError(f"{name} must be {np.dtype(dtype)}, not {found.dtype}.")
    if shape is not None and not _fits(shape, found.shape):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise DeviceArrayError(f"{name} must have the shape ({wanted}), not {found.shape}.")
    return found


def _view(array: Any, name: str, stream: int | None) -> DeviceArray:
    if isinstance(array, DeviceArray):
        return array
    has_dlpack = hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__")
    if hasattr(array, "__cuda_array_interface__"):
        interface = array.__cuda_array_interface__
        # Before version 3 only DLPack says which stream computes the array.
        if interface["version"] >= _NAMES_STREAM or not has_dlpack:
            return _by_interface(array, interface, name)
        return _by_dlpack(array, name, stream)
    if hasattr(array, "__array_interface__"):
        return _by_interface(array, array.__array_interface__, name, device=HOST)
    if has_dlpack:
        return _by_dlpack(array, name, stream)
    raise DeviceArrayError(
        f"{name} is {type(array).__name__}, which has neither __cuda_array_interface__ nor "
        "__dlpack__. Give an array of NumPy, torch, CuPy or pycuda."
    )


def _by_interface(
    array: Any, interface: dict[str, Any], name: str, *, device: str | None = None
) -> DeviceArray:
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    if interface.get("mask") is not None:
        raise DeviceArrayError(f"{name} is masked. Give an array without a mask.")
    if strides is not None:
        _check_dense(name, shape, tuple(strides), dtype.itemsize)
    named = interface["version"] >= _NAMES_STREAM
    pending = interface.get("stream") if named else LEGACY_STREAM
    return DeviceArray(
        address=int(interface["data"][0] or 0),
        shape=shape,
        dtype=dtype,
        device=device or f"cuda:{_device_number(array)}",
        owner=array,
        stream=None if device else pending,
    )


def _device_number(array: Any) -> int:
    """Return ``device.index`` (torch) or ``device.id`` (CuPy); the interface lacks the number."""
    device = getattr(array, "device", None)
    for attribute in ("index", "id"):
        number = getattr(device, attribute, None)
        if isinstance(number, int):
            return number
    return 0


def _by_dlpack(array: Any, name: str, stream: int | None) -> DeviceArray:
    kind, number = array.__dlpack_device__()
    on_host = kind in (dlpack.CPU, dlpack.CUDA_HOST)
    if not on_host and kind not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        raise DeviceArrayError(
            f"{name} lies on a device of DLPack kind {int(kind)}, neither the CPU nor CUDA."
        )
    device = HOST if on_host else f"cuda:{number}"
    used_in = LEGACY_STREAM if stream is None else stream
    try:
        capsule = array.__dlpack__() if on_host else array.__dlpack__(stream=used_in)
    except (BufferError, RuntimeError) as error:
        raise DeviceArrayError(f"{name} is not handed over by its library: {error}.") from error
    content = dlpack.take(capsule)
    if content.strides is not None:
        _check_dense(name, content.shape, content.strides, 1)
    return DeviceArray(
        address=content.address,
        shape=content.shape,
        dtype=content.dtype,
        device=device,
        owner=content.owner,
        stream=LEGACY_STREAM if device != HOST and stream is None else None,
    )


def _check_dense(
    name: str, shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> None:
    step = itemsize
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        # Along an axis of one element, or in an empty array, no step is ever taken.
        if size > 1 and stride != step and 0 not in shape:
            raise DeviceArrayError(
                f"{name} has gaps between its elements or another order. Give it C-contiguous."
            )
        step *= size


def _fits(wanted: Sequence[int | None], shape: tuple[int, ...]) -> bool:
    return len(wanted) == len(shape) and all(
        size is None or size == found for size, found in zip(wanted, shape, strict=True)
    )
