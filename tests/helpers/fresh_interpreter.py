"""The modules that a statement loads, in an interpreter that has loaded nothing yet."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from tests.helpers import processes


def loaded_by(statement: str, modules: Sequence[str]) -> list[str]:
    """Return those of ``modules`` that are in ``sys.modules`` after ``statement`` ran."""
    program = (
        f"import json, sys\n{statement}\n"
        f"print(json.dumps([name for name in {list(modules)} if name in sys.modules]))"
    )
    done = processes.finish([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found
