"""What a statement loads, seen in an interpreter that has loaded nothing yet."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence


def loaded_by(statement: str, modules: Sequence[str]) -> list[str]:
    """Those of ``modules`` that are in ``sys.modules`` after ``statement`` ran."""
    program = (
        f"import json, sys\n{statement}\n"
        f"print(json.dumps([name for name in {list(modules)} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found
