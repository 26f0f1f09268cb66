"""Every script in ``examples/`` runs as it stands, on an embedded model."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from fastseg.artifacts import registry

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_example_runs_and_prints(script: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    wanted = set(re.findall(r'load\("([^"]+)"', script.read_text()))
    missing = wanted - {folder.name for folder in registry.embedded_folders()}
    if missing:
        pytest.skip(f"not embedded in this build: {', '.join(sorted(missing))}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()
