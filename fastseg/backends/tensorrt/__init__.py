"""TensorRT and TensorRT-RTX: engines that ``fastseg build`` made, on CUDA devices."""

from fastseg.backends.tensorrt.runtime import open_engine

__all__ = ["open_engine"]
