"""Promises of ``fastseg export sam``; the export itself is tested where it lives."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastseg
from fastseg.cli.root import run

ROOT = Path(fastseg.__file__).parents[1]


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


def test_a_checkpoint_with_code_in_it_is_refused_and_nothing_runs(tmp_path, capsys) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    evidence, checkpoint = tmp_path / "evidence", tmp_path / "checkpoint.pth"
    checkpoint.write_bytes(pickle.dumps({"image_encoder.pos_embed": Trap(evidence)}))
    out = tmp_path / "model"
    call = ["export", "sam", "--checkpoint", str(checkpoint), "--out", str(out), "--json"]
    assert run(call) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "CheckpointError"
    assert str(checkpoint) in document["error"]["message"]
    assert not evidence.exists()
    assert not out.exists()


def test_a_missing_checkpoint_is_an_input_that_fails(tmp_path, capsys) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    missing = tmp_path / "missing.pth"
    assert run(["export", "sam", "--checkpoint", str(missing), "--out", str(tmp_path / "m")]) == 1
    assert "missing.pth" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_the_export_extra_one_line_says_how_to_get_it(tmp_path) -> None:
    script = "import sys; sys.modules['torch'] = None; from fastseg.__main__ import main"
    call = ["export", "sam", "--checkpoint", "a.pth", "--out", str(tmp_path / "model")]
    answer = subprocess.run(
        [sys.executable, "-c", f"{script}; sys.exit(main({call}))"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert answer.returncode == 2
    assert 'pip install "fastseg-runtime[export]"' in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
