"""What the README shows is what happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastseg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def in_a_folder_with_the_files(tmp_path, monkeypatch):
    picture = next((ROOT / "fastseg" / "demo_data").glob("*.png"))
    shutil.copy(picture, tmp_path / "coins.png")
    random = np.random.default_rng(0)
    np.save(tmp_path / "p7_A4C.npy", random.integers(0, 256, (2, 256, 256), np.uint8))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("session", code_blocks("python"))
def test_the_python_sessions_run_as_written(session, in_a_folder_with_the_files, capsys):
    lines = [line for line in session.splitlines() if line.strip()]
    assert len(lines) <= 10
    exec(compile(session, "README.md", "exec"), {})
    printed = capsys.readouterr()
    assert printed.out
    assert not printed.err


def test_every_public_name_can_be_imported():
    for name in fastseg.__all__:
        assert getattr(fastseg, name) is not None


def test_every_linked_file_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
