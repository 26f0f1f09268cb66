"""The runtime of fastseg's own kernels on the CPU."""
