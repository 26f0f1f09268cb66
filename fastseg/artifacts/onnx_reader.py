"""Nodes and weights of a graph in an ONNX file, read with NumPy alone.

The format is Protocol Buffers (https://protobuf.dev/programming-guides/encoding) with the numbers
of the fields in onnx.proto3. What the kernels have no use for is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.manifest import REMEDY
from fastseg.errors import ModelFolderError

Value: TypeAlias = "int | memoryview"

_DTYPES: Mapping[int, np.dtype[Any]] = MappingProxyType({1: np.dtype("<f4"), 10: np.dtype("<f2")})
"""Types of weights that are read, by ONNX's numbers."""

_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5
"""How a field's value is written."""

_LONGEST = 10
"""Bytes of a number."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | tuple[int, ...]]
    """Those that are whole numbers."""


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """What a file holds."""

    nodes: tuple[Node, ...]
    """In the order in which they can be run."""

    weights: Mapping[str, NDArray[Any]]
    """float32 or float16, read-only views of what was read. Others, and those in files of their
    own, are left out."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read(path: Path) -> OnnxGraph:
    """Read a file.

    Raises:
        ModelFolderError: It is missing, truncated or of another format.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error}. {REMEDY}") from error
    try:
        return _graph(_message(dict(_fields(content))[7]))
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise ModelFolderError(f"{path} is no ONNX graph that can be read. {REMEDY}") from error


def _graph(content: memoryview) -> OnnxGraph:
    nodes, weights = [], {}
    named: dict[int, list[str]] = {11: [], 12: []}
    for number, value in _fields(content):
        if number == 1:
            nodes.append(_node(_message(value)))
        elif number == 5:
            weights.update(_weight(_message(value)))
        elif number in named:
            named[number].append(_text(dict(_fields(_message(value)))[1]))
    inputs = tuple(name for name in named[11] if name not in weights)
    return OnnxGraph(tuple(nodes), MappingProxyType(weights), inputs, tuple(named[12]))


def _node(content: memoryview) -> Node:
    kind, names, attributes = "", {1: [""][:0], 2: [""][:0]}, {}
    for number, value in _fields(content):
        if number in names:
            names[number].append(_text(value))
        elif number == 4:
            kind = _text(value)
        elif number == 5:
            attributes.update(_attribute(_message(value)))
    return Node(kind, tuple(names[1]), tuple(names[2]), MappingProxyType(attributes))


def _attribute(content: memoryview) -> dict[str, int | tuple[int, ...]]:
    """An attribute of kind 2, a number, or 7, several."""
    name, kind, one, many = "", 0, 0, list[int]()
    for number, value in _fields(content):
        if number == 1:
            name = _text(value)
        elif number == 3:
            one = _number(value)
        elif number == 8:
            many += _numbers(value)
        elif number == 20:
            kind = _number(value)
    return {name: one} if kind == 2 else {name: tuple(many)} if kind == 7 else {}


def _weight(content: memoryview) -> dict[str, NDArray[Any]]:
    shape, data, fields = list[int](), memoryview(b""), dict[int, Value]()
    for number, value in _fields(content):
        if number == 1:
            shape += _numbers(value)
        elif number == 9:
            data = _message(value)
        else:
            fields[number] = value
    dtype = _DTYPES.get(_number(fields.get(2, 0)))
    if dtype is None or len(data) != prod(shape) * dtype.itemsize:
        return {}
    return {_text(fields[8]): np.frombuffer(data, dtype).reshape(shape)}


def _fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """Numbers of fields and their values: a whole number, or the bytes of anything else."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if kind == _COUNTED:
            size, at = _varint(content, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"field {number} is of kind {kind}")
        if at + size > len(content):
            raise ValueError("a field ends beyond the file")
        yield number, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a place, and where it ends."""
    value = 0
    for index in range(_LONGEST):
        byte = content[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number does not end")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")
    return value


def _text(value: Value) -> str:
    return bytes(_message(value)).decode()


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("a message stands where a number should")
    return value


def _numbers(value: Value) -> list[int]:
    """A repeated number: one of them, or many packed into one field."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found
