"""Scripts of the project, run in the process of the test: importing torch anew takes seconds."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT


def run_script(patch: pytest.MonkeyPatch, name: str, *words: str | Path) -> int:
    """Run ``export/NAME`` as ``python export/NAME WORDS`` would; return its exit code."""
    path = ROOT / "export" / name
    patch.setattr(sys, "argv", [str(word) for word in (path, *words)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert isinstance(end.value.code, int)
    return end.value.code
