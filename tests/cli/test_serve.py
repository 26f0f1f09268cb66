"""``fastseg serve`` starts a server, and refuses what would open it to anyone."""

from __future__ import annotations

import re
import signal
import sys

import pytest

from fastseg.__main__ import main

pytest.importorskip("fastapi", reason="the server needs the extra server")

from fastseg.client import Client
from tests.helpers.processes import running


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--host", "0.0.0.0"], "there is no token"),
        (["--token-file", "none.txt"], "cannot be read"),
        (["--root", "none"], "is no folder"),
        (["--allow-origin", "example.org"], "is no web origin"),
    ],
)
def test_calls_that_would_not_serve_are_refused(words, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_file_without_tokens_is_refused(capsys, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("\n")
    assert main(["serve", "--token-file", str(file)]) == 2
    assert "holds no token" in capsys.readouterr().err


def test_the_server_answers_until_it_is_interrupted(tmp_path, tiny_folder):
    file = tmp_path / "tokens"
    file.write_text("a-token-for-this-test\n")
    words = [sys.executable, "-m", "fastseg", "serve", "--port", "0", "--model", str(tiny_folder)]
    words += ["--token-file", str(file), "--root", str(tmp_path)]
    with running(words) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"at (http://\S+)", line)
        assert found, line
        with Client(found[1], token="a-token-for-this-test", timeout=60) as client:
            assert client.about()["root"] is True
            assert client.paths() == []
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()
