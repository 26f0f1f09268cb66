"""Weights that an ONNX graph and a native kernel read from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir

from fastseg.artifacts import safetensors
from fastseg.contract import Array

LEAST_BYTES = 4096
"""Smaller weights stay in the graph: a reference to them would save next to nothing."""

_STORED = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16)


def refer(model: onnx_ir.Model, weights: Path) -> None:
    """Replace every initialiser that a file holds bit for bit by a reference to that file.

    Args:
        model: A graph that is not written yet; it is changed in place.
        weights: Written by ``safetensors.write`` into the folder of the graph. An array of the file
            and an initialiser are the same only if both are float32 or both are float16.
    """
    entries = safetensors.entries(weights)
    found = {
        _key(array, entries[name].bytes): entries[name]
        for name, array in safetensors.read(weights).items()
    }
    for value in model.graph.initializers.values():
        inside: Any = value.const_value
        if inside.nbytes < LEAST_BYTES or inside.dtype not in _STORED:
            continue
        entry = found.get(_key(inside.numpy(), inside.nbytes))
        if entry is not None:
            value.const_value = onnx_ir.ExternalTensor(
                weights.name,
                entry.offset,
                entry.bytes,
                inside.dtype,
                shape=inside.shape,
                name=inside.name,
                base_dir=weights.parent,
            )


def _key(array: Array, stored_bytes: int) -> tuple[tuple[int, ...], int, bytes]:
    """Identify an array by shape, stored length and values, which float32 holds exactly."""
    return array.shape, stored_bytes, np.ascontiguousarray(array, np.float32).tobytes()
