"""The GPU that these benchmarks share."""

from tests.helpers.on_gpu import gpu

__all__ = ["gpu"]
