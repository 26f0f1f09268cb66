"""Instruction sets of the processor, as its system tells them."""

from __future__ import annotations

import platform
from pathlib import Path

from fastseg.backends.runtime import without_instructions

_CPUINFO = Path("/proc/cpuinfo")

_X86 = ("x86_64", "AMD64", "i686")

_INTEGERS = ("avx512_vnni", "avx_vnni")


def instructions() -> frozenset[str]:
    """Instruction sets by the names that Linux has for them; none where it does not tell."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(flags.split())
    return frozenset()


def require_integers(runtime: str) -> None:
    """Refuse products of 8-bit integers where runtimes would add two of them in 16 bits.

    That is what x86-64 has without VNNI. The sum of two products of 255 and 127 does not fit there
    and is cut off, so that masks would be wrong and nobody told.

    Args:
        runtime: Who would compute, for the message.

    Raises:
        BackendUnavailableError: The processor is such a one.
    """
    if platform.machine() in _X86 and instructions().isdisjoint(_INTEGERS):
        raise without_instructions(runtime, "int8")
