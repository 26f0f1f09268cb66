"""DLPack capsules: arrays that pass from one library to another without a copy.

The structures and the protocol are those of https://dmlc.github.io/dlpack/latest/, the unversioned
``DLManagedTensor`` that every library understands.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseg.errors import DeviceArrayError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of device in DLPack. Page-locked and managed memory have addresses that the CPU has too."""

_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
_CODES = {kind: code for code, kind in _KINDS.items()}

_NEW, _USED = b"dltensor", b"used_dltensor"
"""Names of a capsule before and after somebody took what is in it."""


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_python = ctypes.pythonapi
_python.PyCapsule_IsValid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_python.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

# A capsule that is being destroyed has no reference left to make an object of: its functions take
# the bare pointer, by prototypes of their own.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _python)
)
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _python)
)


@dataclass(frozen=True, slots=True)
class Content:
    """What a capsule says about an array."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """In elements; None if the array is dense, row by row."""

    dtype: np.dtype[Any]
    device: tuple[int, int]
    """Kind and number."""

    owner: object = None
    """What keeps the memory alive."""


class _Taken:
    """Memory of another library, which is told when it is no longer needed."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __del__(self) -> None:
        managed = _Managed.from_address(self._address)
        if managed.deleter:
            managed.deleter(self._address)


def take(capsule: Any) -> Content:
    """Take the array out of a capsule; it can be taken once.

    Raises:
        DeviceArrayError: It is no capsule of DLPack, was taken already, or holds numbers that NumPy
            has no name for.
    """
    if not _python.PyCapsule_IsValid(capsule, _NEW):
        raise DeviceArrayError(
            "__dlpack__ gave no fresh DLPack capsule. Ask the array for a new one."
        )
    address = _python.PyCapsule_GetPointer(capsule, _NEW)
    _python.PyCapsule_SetName(capsule, _USED)
    owner, tensor = _Taken(address), _Managed.from_address(address).tensor
    code, bits, lanes = tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes
    if code not in _KINDS or lanes != 1 or bits % 8:
        raise DeviceArrayError(
            f"an array of DLPack type code {code}, {bits} bits and {lanes} lanes cannot be used. "
            "Give integers, float16 or float32."
        )
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else None
    return Content(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=shape,
        strides=strides,
        dtype=np.dtype(f"{_KINDS[code]}{bits // 8}"),
        device=(tensor.device.type, tensor.device.index),
        owner=owner,
    )


_lent: dict[int, tuple[_Managed, Any, Content]] = {}
_numbers = itertools.count(1)


def _give_back(address: int) -> None:
    _lent.pop(_Managed.from_address(address).context, None)


def _destroy(capsule: int) -> None:
    # Nobody took what is in it, or its new owner would have renamed it.
    if _is_valid(capsule, _NEW):
        _give_back(_get_pointer(capsule, _NEW))


_give_back_function, _destroy_function = _Deleter(_give_back), _Deleter(_destroy)


def give(content: Content) -> Any:
    """Put a dense array into a capsule; ``content`` is kept until its taker is done with it."""
    shape = (ctypes.c_int64 * len(content.shape))(*content.shape)
    managed = _Managed()
    managed.tensor.data = content.address
    managed.tensor.device = _Device(*content.device)
    managed.tensor.ndim = len(content.shape)
    managed.tensor.dtype = _DType(_CODES[content.dtype.kind], content.dtype.itemsize * 8, 1)
    managed.tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    managed.context = next(_numbers)
    managed.deleter = _give_back_function
    _lent[managed.context] = (managed, shape, content)
    address = ctypes.addressof(managed)
    return _python.PyCapsule_New(address, _NEW, ctypes.cast(_destroy_function, ctypes.c_void_p))
