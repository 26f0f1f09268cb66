"""The GPU that these benchmarks share."""

from tests.on_gpu import gpu

__all__ = ["gpu"]
