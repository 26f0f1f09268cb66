"""Resident memory, open files and threads of this process, as Linux counts them."""

from __future__ import annotations

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_PEAK_RESET = "5"  # of /proc/PID/clear_refs, see proc(5)


def resident() -> int:
    """Return the resident memory in bytes."""
    return _field("VmRSS:")


def trimmed() -> int:
    """Return the resident memory in bytes after garbage was collected and free memory returned."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return resident()


def reset_peak() -> None:
    """Let the peak begin at the resident memory of now, where the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_PEAK_RESET, encoding="ascii")


def peak() -> int:
    """Return the largest resident memory in bytes since ``reset_peak``."""
    return _field("VmHWM:")


def open_files() -> int:
    """Count the open file descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def threads() -> int:
    """Count the threads, also those of native code."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _field(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
