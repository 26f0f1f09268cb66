"""The table of runtimes, in the order in which ``"auto"`` prefers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from fastseg.backends.base import Runtime
from fastseg.errors import BackendError


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the table, known before its runtime is imported."""

    load: Callable[[], Runtime]
    """Imports the runtime."""

    needs_gpu: bool = False
    """``Runtime.needs_gpu``: without a GPU, ``"auto"`` does not import it."""


@cache
def _tensorrt() -> Runtime:
    from fastseg.backends.tensorrt.runtime import TENSORRT_RUNTIME

    return TENSORRT_RUNTIME


@cache
def _tensorrt_rtx() -> Runtime:
    from fastseg.backends.tensorrt.runtime import TENSORRT_RTX_RUNTIME

    return TENSORRT_RTX_RUNTIME


@cache
def _native() -> Runtime:
    from fastseg.backends.native.runtime import NATIVE

    return NATIVE


@cache
def _onnxruntime() -> Runtime:
    from fastseg.backends.onnxruntime.session import ONNXRUNTIME

    return ONNXRUNTIME


@cache
def _openvino() -> Runtime:
    from fastseg.backends.openvino import OPENVINO

    return OPENVINO


RUNTIMES: Mapping[str, Entry] = MappingProxyType(
    {
        "tensorrt": Entry(_tensorrt, needs_gpu=True),
        "tensorrt-rtx": Entry(_tensorrt_rtx, needs_gpu=True),
        "native": Entry(_native),
        "onnxruntime": Entry(_onnxruntime),
        "openvino": Entry(_openvino),
    }
)
"""Each runtime by its name, imported when it is called for: most models need one or two."""


def runtime(name: str) -> Runtime:
    """Look a runtime up.

    Args:
        name: A key of ``RUNTIMES``.

    Raises:
        BackendError: There is no such runtime.
    """
    if name not in RUNTIMES:
        raise BackendError(f"There is no runtime {name!r}, but {', '.join(RUNTIMES)}.")
    return RUNTIMES[name].load()


def runtimes(*, with_gpu: bool) -> Iterator[Runtime]:
    """Iterate over the runtimes in the order of preference, installed or not.

    Args:
        with_gpu: Whether those that run on GPUs alone are among them.
    """
    for entry in RUNTIMES.values():
        if with_gpu or not entry.needs_gpu:
            yield entry.load()
