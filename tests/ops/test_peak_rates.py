"""Measured rates of the kernel tables of this processor."""

from __future__ import annotations

import math

import pytest

from fastseg import ops
from fastseg.errors import BackendError


def exact_tables() -> list[str]:
    return [name for name in ops.kernel_tables() if not ops.computes_in_bf16(name)]


@pytest.mark.parametrize("threads", [1, 3])
def test_every_float32_table_has_rates(threads):
    for name in exact_tables():
        rates = ops.peak_rates(name, threads=threads)
        assert all(math.isfinite(rate) and rate > 0 for rate in rates), name


@pytest.mark.parametrize("name", ["amx-bf16", "sve"])
def test_tables_that_multiply_no_float32_here_are_refused(name):
    with pytest.raises(BackendError, match=f"{name}.*Use one of {exact_tables()[0]}"):
        ops.peak_rates(name)
