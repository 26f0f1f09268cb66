"""Promises of ``fastseg.cli.progress``: shown on a terminal, and nowhere else."""

from __future__ import annotations

import sys
from io import StringIO

import pytest

from fastseg.cli.progress import progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [2, None])
def test_steps_are_named_on_a_terminal(total: int | None, monkeypatch, capsys) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(total) as step:
        step("first.png")
        step("second.png")
    assert "second.png" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_nothing_is_printed_if_stderr_is_no_terminal(monkeypatch, capsys) -> None:
    with progress(1) as step:
        step("first.png")
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
