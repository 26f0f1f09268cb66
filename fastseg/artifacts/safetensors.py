"""Arrays by name in one file, read and written with NumPy alone.

The format is that of safetensors (https://github.com/huggingface/safetensors): 8 bytes with the
length of a header, the header in JSON, and behind it the arrays, one after another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.manifest import REMEDY
from fastseg.contract import Array
from fastseg.errors import ModelFolderError

_DTYPES: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}

_HEADER_BYTES = 2**24
"""A longer header is not ours, and is not read into memory."""

_ALIGNMENT = 8
"""The header is filled with spaces to a multiple of it, as the format's own writer does."""


def write(path: Path, arrays: Mapping[str, NDArray[np.float32]], *, halve: bool = False) -> None:
    """Write float32 arrays of any shapes.

    Args:
        path: The file to write.
        arrays: By name; every value must be finite.
        halve: Store as float16 each array that loses nothing by it.
    """
    stored = {name: _smallest(array, halve=halve) for name, array in arrays.items()}
    header: dict[str, Any] = {}
    end = 0
    for name, array in stored.items():
        begin, end = end, end + array.nbytes
        dtype = "F16" if array.dtype.itemsize == 2 else "F32"
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in stored.values():
            file.write(array.tobytes())


class Place(NamedTuple):
    """Where an array lies in its file."""

    offset: int
    """Bytes before it."""

    bytes: int


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
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise _damaged(path, str(error)) from error


def places(path: Path) -> dict[str, Place]:
    """Where the arrays of a file that ``write`` made lie in it."""
    with path.open("rb") as file:
        content = file.read(8)
        content += file.read(int.from_bytes(content, "little"))
    header, start = _header(content)
    spans = {name: entry["data_offsets"] for name, entry in header.items()}
    return {name: Place(start + begin, end - begin) for name, (begin, end) in spans.items()}


def _header(content: memoryview | bytes) -> tuple[dict[str, Any], int]:
    """What the file says of its arrays, and where the first one begins."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(_HEADER_BYTES, len(content) - 8):
        raise ValueError("its header is not whole")
    header = json.loads(bytes(content[8 : 8 + length]))
    header.pop("__metadata__", None)
    return header, 8 + length


def _smallest(array: NDArray[np.float32], *, halve: bool) -> Array:
    array = np.asarray(array, "<f4", order="C")
    if halve:
        with np.errstate(over="ignore"):
            halves = array.astype("<f2")
        if np.array_equal(halves.astype("<f4"), array):
            return halves
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
