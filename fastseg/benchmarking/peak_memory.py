"""Peak memory of a block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): set the peak resident set size to the current one


@dataclass(slots=True)
class PeakMemory:
    """Resident memory before a block, and its peak inside."""

    before: int = 0
    """Bytes when the block began."""

    peak: int = 0
    """Bytes at the peak; 0 until the block has ended."""

    known: bool = False
    """True if the system let the peak be reset and read; else the numbers mean nothing."""

    @property
    def above(self) -> int | None:
        """Bytes at the peak above those resident before the block; None if not known."""
        return max(0, self.peak - self.before) if self.known else None


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Measure the peak resident memory of a block, as the Linux kernel counts it.

    The peak covers the whole process, native libraries and threads included. On another system,
    or where the peak may not be reset, ``known`` stays False.
    """
    measured = PeakMemory()
    measured.known = _reset()
    measured.before = _read("VmRSS")
    try:
        yield measured
    finally:
        measured.peak = _read("VmHWM")


def _reset() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _read(field: str) -> int:
    """Read one field of the process's status in bytes, 0 if it is absent."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(row.split()[1]) * 1024 for row in lines if row.startswith(field + ":")), 0)
