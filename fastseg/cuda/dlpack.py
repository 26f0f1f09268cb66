"""DLPack capsules, which pass arrays from one library to another without a copy.

The protocol is that of https://dmlc.github.io/dlpack/latest/. Capsules are given as the unversioned
``DLManagedTensor``, which every library understands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseg import _core
from fastseg.errors import DeviceArrayError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of device in DLPack. The CPU can address page-locked and managed memory too."""

_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
_CODES = {kind: code for code, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Content:
    """An array in a capsule."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """In elements; None if the array is dense and row-major."""

    dtype: np.dtype[Any]
    device: tuple[int, int]
    """Kind and number."""

    owner: object = None
    """Object that keeps the memory alive."""


def take(capsule: Any) -> Content:
    """Take the array out of a capsule, which is possible once.

    Raises:
        DeviceArrayError: It is no DLPack capsule, was taken already, or holds numbers that NumPy
            has no name for.
    """
    try:
        taken = _core.dlpack_take(capsule)
    except (TypeError, ValueError) as error:
        raise DeviceArrayError(
            "__dlpack__ gave no fresh DLPack capsule. Ask the array for a new one."
        ) from error
    code, bits, lanes = taken.dtype
    if code not in _KINDS or lanes != 1 or bits % 8:
        raise DeviceArrayError(
            f"an array of DLPack type code {code}, {bits} bits and {lanes} lanes cannot be used. "
            "Give integers, float16 or float32."
        )
    return Content(
        address=taken.address,
        shape=tuple(taken.shape),
        strides=tuple(taken.strides),
        dtype=np.dtype(f"{_KINDS[code]}{bits // 8}"),
        device=taken.device,
        owner=taken,
    )


def give(content: Content) -> Any:
    """Put a dense array into a capsule; its owner is kept until the taker is done with it."""
    code_and_bits = _CODES[content.dtype.kind], content.dtype.itemsize * 8
    return _core.dlpack_give(
        content.address, content.shape, code_and_bits, content.device, content.owner
    )
