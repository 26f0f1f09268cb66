"""Named arrays in one file of the safetensors format, read and written with NumPy alone.

The format (https://github.com/huggingface/safetensors) is 8 bytes with the length of a header, the
header in JSON, and the arrays, one after another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.json_fields import REMEDY
from fastseg.contract import Array
from fastseg.errors import ModelFolderError

_DTYPES: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}

_HEADER_BYTES = 2**24
"""A longer header was not written by fastseg, and is not read into memory."""

_DAMAGES = (ValueError, TypeError, AttributeError, KeyError, RecursionError)
"""Errors that a header of wrong content shows itself by."""

_ALIGNMENT = 8
"""The header is filled with spaces to a multiple of it, as the format's own writer does."""


def write(
    path: Path, arrays: Mapping[str, NDArray[np.float32]], *, lossless_fp16: bool = False
) -> None:
    """Write float32 arrays of any shapes.

    Args:
        path: The file to write.
        arrays: By name; every value must be finite.
        lossless_fp16: Store as float16 each array that loses nothing by it.
    """
    stored = {name: _stored(array, lossless_fp16) for name, array in arrays.items()}
    # Float32 first: every array is aligned to its own type then.
    order = sorted(stored, key=lambda name: -stored[name].itemsize)
    ends = dict(zip(order, accumulate(stored[name].nbytes for name in order), strict=True))
    header = {
        name: {
            "dtype": "F16" if array.itemsize == 2 else "F32",
            "shape": list(array.shape),
            "data_offsets": [ends[name] - array.nbytes, ends[name]],
        }
        for name, array in stored.items()
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            file.write(stored[name].tobytes())


class Entry(NamedTuple):
    """The header's entry of one array."""

    shape: tuple[int, ...]

    offset: int
    """Bytes of the file before the array."""

    bytes: int
    """Length of the array in bytes: 2 or 4 for each element."""


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read every array of a file, as float32.

    Returns:
        The arrays by name. Those stored as float32 are read-only views of what was read.

    Raises:
        ModelFolderError: The file is missing, truncated or of another format, or a value in it is
            not finite. The message names the file and the remedy.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error}. {REMEDY}") from error
    try:
        header, start = _header(content)
        return {name: _array(content[start:], **entry) for name, entry in header.items()}
    except _DAMAGES as error:
        raise _damaged(path, str(error)) from error


def entries(path: Path) -> dict[str, Entry]:
    """Read the header of a file alone: the shape and the position of each array by name.

    Raises:
        ModelFolderError: The file is missing or of another format.
    """
    try:
        with path.open("rb") as file:
            content = file.read(8)
            content += file.read(min(int.from_bytes(content, "little"), _HEADER_BYTES))
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error}. {REMEDY}") from error
    try:
        header, start = _header(content)
        return {
            name: Entry(tuple(entry["shape"]), start + begin, end - begin)
            for name, entry in header.items()
            for begin, end in [entry["data_offsets"]]
        }
    except _DAMAGES as error:
        raise _damaged(path, str(error)) from error


def _header(content: memoryview | bytes) -> tuple[dict[str, Any], int]:
    """Parse the header; the entries by name, and the offset of the first array."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(_HEADER_BYTES, len(content) - 8):
        raise ValueError("its header is not whole")
    header = json.loads(bytes(content[8 : 8 + length]))
    header.pop("__metadata__", None)
    return header, 8 + length


def _stored(array: NDArray[np.float32], lossless_fp16: bool) -> Array:
    """Convert an array to the type that it is stored in."""
    array = np.asarray(array, "<f4", order="C")
    if lossless_fp16:
        with np.errstate(over="ignore"):
            rounded = array.astype("<f2")
        if np.array_equal(rounded.astype("<f4"), array):
            return rounded
    return array


def _array(
    data: memoryview, *, dtype: str, shape: list[int], data_offsets: list[int]
) -> NDArray[np.float32]:
    begin, end = data_offsets
    if not all(isinstance(size, int) and size >= 0 for size in (*shape, begin, end)):
        raise ValueError(f"shape {shape} and place {data_offsets} must be whole numbers")
    if end > len(data) or end - begin != prod(shape) * _DTYPES[dtype].itemsize:
        raise ValueError(f"shape {shape} does not lie at bytes {begin} to {end} of {len(data)}")
    stored: Array = np.frombuffer(data[begin:end], _DTYPES[dtype])
    array: NDArray[np.float32] = stored.reshape(shape).astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    return array


def _damaged(path: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(f"{path} holds no arrays that can be read: {reason}. {REMEDY}")
