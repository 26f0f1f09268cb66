"""The table of runtimes, and the face that each of its modules has."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from fastseg.backends.base import Runtime
from fastseg.errors import BackendError

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "tensorrt": "fastseg.backends.tensorrt",
        "tensorrt-rtx": "fastseg.backends.tensorrt.rtx",
        "native": "fastseg.backends.native.runtime",
        "onnxruntime": "fastseg.backends.onnxruntime.session",
        "openvino": "fastseg.backends.openvino",
    }
)
"""The module of each runtime, in the order in which ``"auto"`` prefers them. A module is imported
when its runtime is asked for: most starts need one."""

ON_GPUS = ("tensorrt", "tensorrt-rtx")
"""Runtimes that ``"auto"`` thinks of only where there is a GPU."""

FOR_PROMPTS = ("native",)
"""Runtimes that answer prompts, and may leave the picture to another one."""


def runtime(name: str) -> Runtime:
    """The module of a runtime.

    Args:
        name: A key of ``MODULES``.

    Raises:
        BackendError: There is no such runtime.
    """
    if name not in MODULES:
        raise BackendError(f"There is no runtime {name!r}, but {', '.join(MODULES)}.")
    return cast("Runtime", importlib.import_module(MODULES[name]))
