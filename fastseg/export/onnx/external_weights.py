"""Weights that an ONNX graph and a native kernel read from one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir

from fastseg.artifacts import safetensors
from fastseg.artifacts.safetensors import Entry
from fastseg.contract import Array

LEAST_BYTES = 4096
"""Smaller weights stay in the graph: a reference to them would save next to nothing."""

_STORED = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16)

_BEGINNING = 256
"""Bytes that tell most arrays of a shape apart."""


def refer(model: onnx_ir.Model, weights: Path) -> None:
    """Replace every initialiser that a file holds bit for bit by a reference to that file.

    The file is read array by array: its weights are in memory once already.

    Args:
        model: A graph that is not written yet; it is changed in place.
        weights: Written by ``safetensors.write`` into the folder of the graph. An array of the file
            and an initialiser are the same only if both are float32 or both are float16.
    """
    with weights.open("rb") as file:
        alike = _by_beginning(file, safetensors.entries(weights).values())
        for value in model.graph.initializers.values():
            inside: Any = value.const_value
            if inside.nbytes < LEAST_BYTES or inside.dtype not in _STORED:
                continue
            array = inside.numpy()
            beginning = array.flat[: _BEGINNING // array.itemsize].tobytes()
            for entry in alike.get((inside.nbytes, array.shape, beginning), ()):
                if _holds(file, entry, array):
                    value.const_value = _reference(weights, entry, inside)
                    break


def _by_beginning(file: BinaryIO, entries: Iterable[Entry]) -> Mapping[Any, list[Entry]]:
    """Group the arrays of a file that have length, shape and beginning in common."""
    found = defaultdict(list)
    for entry in entries:
        if entry.bytes >= LEAST_BYTES:
            file.seek(entry.offset)
            found[entry.bytes, entry.shape, file.read(_BEGINNING)].append(entry)
    return found


def _holds(file: BinaryIO, entry: Entry, array: Array) -> bool:
    """Tell whether a file holds the bits of an array."""
    file.seek(entry.offset)
    bits = np.dtype(f"u{array.itemsize}")
    stored = np.frombuffer(file.read(entry.bytes), bits).reshape(array.shape)
    return np.array_equal(stored, array.view(bits))


def _reference(weights: Path, entry: Entry, inside: Any) -> onnx_ir.ExternalTensor:
    return onnx_ir.ExternalTensor(
        weights.name,
        entry.offset,
        entry.bytes,
        inside.dtype,
        shape=inside.shape,
        name=inside.name,
        base_dir=weights.parent,
    )
