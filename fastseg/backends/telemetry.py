"""Telemetry of the runtimes, kept off: what they would collect names files and the machine.

ONNX Runtime writes a device id and a queue of events to the user's cache when it is imported, and
sends the queue later. OpenVINO's Python package sends an event when it is imported, by
``openvino_telemetry``.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
"""Environment variable that ONNX Runtime reads when it is imported. A value that the user has set
is left as it is."""

_OPENVINO_SENDER = "openvino_telemetry"

_ABSENT = object()

_IMPORTS = threading.Lock()
"""Held during an import, so that no thread restores the sender while another imports OpenVINO."""


def import_without_telemetry(name: str) -> ModuleType:
    """Import a runtime with its telemetry off.

    A runtime that the process has imported before has begun already: ONNX Runtime is told to record
    nothing from here on.

    Args:
        name: The module of the runtime.

    Raises:
        ImportError: It cannot be imported.
    """
    with _IMPORTS, telemetry_off():
        runtime = importlib.import_module(name)
    disable = getattr(runtime, "disable_telemetry_events", None)
    if disable is not None and os.environ[ORT_SWITCH] == "1":
        disable()
    return runtime


@contextmanager
def telemetry_off() -> Iterator[None]:
    """Keep off the telemetry of runtimes that are imported in this context.

    The variable of ONNX Runtime stays set, for child processes too. OpenVINO has no switch: in this
    context its sender cannot be imported, and OpenVINO takes the stub that it has for that case.
    """
    os.environ.setdefault(ORT_SWITCH, "1")
    modules: dict[str, Any] = sys.modules
    before = modules.get(_OPENVINO_SENDER, _ABSENT)
    modules[_OPENVINO_SENDER] = None
    try:
        yield
    finally:
        del modules[_OPENVINO_SENDER]
        if before is not _ABSENT:
            modules[_OPENVINO_SENDER] = before
