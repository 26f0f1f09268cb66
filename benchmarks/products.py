"""Rates of large matrix products of torch, beside which benchmarks put those of the kernels."""

from __future__ import annotations

import torch

from benchmarks.turns import milliseconds
from fastseg.backends.native.runtime import precisions
from fastseg.environment import usable_cores

SIDE = 3072
"""Of the square matrices: 58 thousand million operations a product."""

ROUNDS = 7

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def product_gflops() -> dict[str, float]:
    """Measure the fastest product of each precision that the processor has instructions for."""
    torch.set_num_threads(usable_cores())
    found = {}
    for name in precisions():
        a = torch.randn(SIDE, SIDE).to(_TYPES[name])
        times = milliseconds({"product": lambda a=a: a @ a}, ROUNDS)["product"]
        found[name] = 2 * SIDE**3 / (min(times) * 1e6)
    return found
