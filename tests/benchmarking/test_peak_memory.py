"""Promises of ``fastseg.benchmarking.peak_memory``."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from fastseg.benchmarking import peak_memory as module
from fastseg.benchmarking.peak_memory import peak_memory

MEBIBYTE = 2**20


@pytest.fixture
def countable() -> None:
    with peak_memory() as memory:
        pass
    if not memory.known:
        pytest.skip("this system does not let a process reset its peak memory")


@pytest.mark.usefixtures("countable")
def test_memory_that_was_freed_inside_the_block_counts() -> None:
    with peak_memory() as memory:
        # Pages of its own: an allocator may hand out memory that it never gave back. Touched, then
        # freed at once; the kernel counts roughly.
        pages = mmap.mmap(-1, 64 * MEBIBYTE)
        np.frombuffer(pages, np.uint8)[::4096] = 1
        pages.close()
    assert memory.above is not None
    assert 60 * MEBIBYTE < memory.above < 128 * MEBIBYTE


@pytest.mark.usefixtures("countable")
def test_memory_from_before_the_block_does_not_count() -> None:
    before = np.ones(64 * MEBIBYTE, np.uint8)
    with peak_memory() as memory:
        before[::4096] += 1
    assert memory.above is not None
    assert memory.above < 32 * MEBIBYTE


def test_where_the_peak_cannot_be_reset_it_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    with peak_memory() as memory:
        pass
    assert memory.above is None
