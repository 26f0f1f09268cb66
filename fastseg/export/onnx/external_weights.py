"""Weights that a graph and a kernel of ours read from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir

from fastseg.artifacts import safetensors
from fastseg.contract import Array

LEAST_BYTES = 4096
"""Smaller weights stay in the graph, where nobody misses them."""


def refer(model: onnx_ir.Model, weights: Path) -> None:
    """Let every initialiser that lies in a file, bit for bit, be read from there.

    Args:
        model: A graph that is not written yet; it is changed in place.
        weights: Written by ``tensor_file.write`` in float32, into the folder of the graph.
    """
    places = safetensors.places(weights)
    found = {_key(array): places[name] for name, array in safetensors.read(weights).items()}
    for value in model.graph.initializers.values():
        inside: Any = value.const_value
        if inside.nbytes < LEAST_BYTES or inside.dtype != onnx_ir.DataType.FLOAT:
            continue
        place = found.get(_key(inside.numpy()))
        if place is not None:
            value.const_value = onnx_ir.ExternalTensor(
                weights.name,
                place.offset,
                place.bytes,
                inside.dtype,
                shape=inside.shape,
                name=inside.name,
                base_dir=weights.parent,
            )


def _key(array: Array) -> tuple[tuple[int, ...], bytes]:
    return array.shape, np.ascontiguousarray(array).tobytes()
