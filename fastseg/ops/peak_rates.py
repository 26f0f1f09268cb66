"""Arithmetic per second that this processor reaches, measured: the bound of every other kernel."""

from __future__ import annotations

from typing import NamedTuple

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.ops import checks
from fastseg.ops.sam_decoder import computes_in_bf16, kernel_tables


class PeakRates(NamedTuple):
    """Measured GFLOP/s in float32 of all threads together."""

    multiply_add: float
    """Of operands in registers."""

    product: float
    """Of rows and a packed matrix, as the native encoder multiplies them."""


def peak_rates(kernel_table: str, *, threads: int = 0) -> PeakRates:
    """Measure the peak rates of a kernel table, at its best of several rounds of milliseconds.

    Args:
        kernel_table: One of ``kernel_tables()`` with float32 operands.
        threads: Threads to use, 0 for all cores.

    Raises:
        BackendError: This processor does not support the table, or its operands are bfloat16.
    """
    if kernel_table not in kernel_tables() or computes_in_bf16(kernel_table):
        exact = [name for name in kernel_tables() if not computes_in_bf16(name)]
        raise BackendError(
            f"Peak rates are measured in float32, and this processor has no such kernel table "
            f"{kernel_table!r}. Use one of {', '.join(exact)}."
        )
    return PeakRates(*_core.peak_rates(kernel_table, checks.threads(threads)))
