"""The device that all of these share."""

from tests.on_gpu import gpu

__all__ = ["gpu"]
