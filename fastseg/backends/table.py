"""The table of runtimes, in the order in which ``"auto"`` prefers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from fastseg.backends.base import Runtime
from fastseg.errors import BackendError


def _tensorrt() -> Runtime:
    from fastseg.backends.tensorrt.runtime import TENSORRT_RUNTIME

    return TENSORRT_RUNTIME


def _tensorrt_rtx() -> Runtime:
    from fastseg.backends.tensorrt.runtime import TENSORRT_RTX_RUNTIME

    return TENSORRT_RTX_RUNTIME


def _native() -> Runtime:
    from fastseg.backends.native.runtime import NATIVE

    return NATIVE


def _onnxruntime() -> Runtime:
    from fastseg.backends.onnxruntime.session import ONNXRUNTIME

    return ONNXRUNTIME


def _openvino() -> Runtime:
    from fastseg.backends.openvino import OPENVINO

    return OPENVINO


RUNTIMES: Mapping[str, Callable[[], Runtime]] = MappingProxyType(
    {
        "tensorrt": _tensorrt,
        "tensorrt-rtx": _tensorrt_rtx,
        "native": _native,
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
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
    return RUNTIMES[name]()


def runtimes(*, with_gpu: bool) -> Iterator[Runtime]:
    """Iterate over the runtimes in the order of preference, installed or not.

    Args:
        with_gpu: Whether those that run on GPUs alone are among them.
    """
    for make in RUNTIMES.values():
        found = make()
        if with_gpu or not found.needs_gpu:
            yield found
