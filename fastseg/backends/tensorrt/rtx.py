"""TensorRT-RTX, for RTX GPUs, built ahead of time: its row in the table of runtimes."""

from __future__ import annotations

from fastseg.backends.tensorrt.library import TENSORRT_RTX
from fastseg.backends.tensorrt.runtime import DEVICES, Face

__all__ = ["DEVICES", "NAME", "OWN_LAYOUT", "open_engine", "open_graph", "require", "settle"]

NAME = TENSORRT_RTX.name

OWN_LAYOUT = True
"""In half precision graphs pass arrays on that graphs in FP32 do not take."""

_FACE = Face(TENSORRT_RTX)
require, settle, open_graph = _FACE.require, _FACE.settle, _FACE.open_graph
open_engine = _FACE.open_engine
