"""Time and memory of exports, for their reports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastseg.benchmarking.peak_memory import peak_memory


@dataclass(slots=True)
class Cost:
    """Time and memory of an export."""

    seconds: float = 0.0
    peak_mb: int | None = None
    """Of the whole process; None where the system does not tell."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of a report."""
        return {"seconds": self.seconds, "peak_memory_mb": self.peak_mb}

    def as_text(self) -> str:
        """Return both in words."""
        memory = "" if self.peak_mb is None else f", {self.peak_mb} MB of memory at most"
        return f"{self.seconds:.1f} s{memory}"


@contextmanager
def costed() -> Iterator[Cost]:
    """Measure what a block takes; the numbers are there when it has ended."""
    cost, start = Cost(), time.perf_counter()
    with peak_memory() as memory:
        yield cost
    cost.seconds = time.perf_counter() - start
    cost.peak_mb = round(memory.peak / 1e6) if memory.known else None
