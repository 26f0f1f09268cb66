"""A fake machine: with a GPU, TensorRT and pycuda, or without a driver."""

from __future__ import annotations

from functools import cache

import pytest

from fastseg import environment
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.engine_key import Gpu
from fastseg.cuda import device as cuda_device
from fastseg.cuda import driver as cuda_driver
from tests.fakes.fake_driver import FakeDevice, FakeDriverLibrary

ADA = Gpu("Ada", (8, 9), "13.0")
"""The GPU of ``with_gpu``."""


def without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the NVIDIA driver."""
    monkeypatch.setattr(environment, "CUDA_DRIVER", "libcuda-that-nobody-has.so.1")
    forget_driver(monkeypatch)


def forget_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver be probed again, and the result go with the patch."""
    monkeypatch.setattr(cuda_driver, "probe", cache(cuda_driver.probe.__wrapped__))


def with_driver(
    monkeypatch: pytest.MonkeyPatch, library: FakeDriverLibrary, release: str | None = None
) -> None:
    """Let the driver be a fake."""
    monkeypatch.setattr(environment, "has_cuda_driver", lambda: True)
    monkeypatch.setattr(cuda_driver, "_library", lambda: library)
    monkeypatch.setattr(cuda_driver, "_release", lambda: release)
    forget_driver(monkeypatch)


def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver list ``ADA``."""
    with_driver(monkeypatch, FakeDriverLibrary((FakeDevice(ADA.name, ADA.compute_capability),)))


def with_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that TensorRT, TensorRT-RTX and pycuda are installed; they have to be faked too."""
    monkeypatch.setattr(tensorrt_library, "version", lambda flavour: "1.7")
    monkeypatch.setattr(tensorrt_library, "runtime", lambda flavour: object())
    monkeypatch.setattr(cuda_device, "import_pycuda", object)
