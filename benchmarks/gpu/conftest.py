"""The device that all of these share."""

from tests.helpers.on_gpu import gpu

__all__ = ["gpu"]
