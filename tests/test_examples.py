"""Every script in ``examples/`` runs as it stands, on an embedded model."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from fastseg import registry

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_example_runs_and_prints(script: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    if "sam-nano" not in {folder.name for folder in registry.embedded_folders()}:
        pytest.skip("sam-nano is not embedded in this build")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()
