"""CUDA without a runtime: the driver, a device, its arrays and its kernels."""
