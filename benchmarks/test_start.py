"""Time to import fastseg in a fresh interpreter."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastseg


def test_time_to_import(table: Callable[..., None]) -> None:
    statements = {
        "nothing": "pass",
        "import numpy": "import numpy",
        "import fastseg": "import fastseg",
        "from fastseg import load": "from fastseg import load",
        "import onnxruntime": "import onnxruntime",
    }
    took = {name: statistics.median(import_times(code)) for name, code in statements.items()}
    unit = took["import numpy"]
    rows = [("", "ms", "of import numpy", "target")]
    for name, ms in took.items():
        target = "150" if "fastseg" in name else ""
        rows.append((name, f"{ms:.0f}", f"{ms / unit:.2f}", target))
    table("time in a fresh interpreter, median of 7, files in the system's cache", rows)


def import_times(code: str) -> Iterator[float]:
    """Yield the milliseconds of a statement, each time in a fresh interpreter."""
    script = f"import time; t = time.perf_counter(); {code}; print(1e3 * (time.perf_counter() - t))"
    for _ in range(7):
        yield float(run_python(script))


def run_python(script: str, *words: str) -> Any:
    """Run a script and read its output as JSON."""
    command = [sys.executable, "-c", script, *words]
    root = Path(fastseg.__file__).parents[1]
    run = subprocess.run(command, capture_output=True, check=True, cwd=root)
    return json.loads(run.stdout)
