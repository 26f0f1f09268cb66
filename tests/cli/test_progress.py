"""Promises of ``fastseg.cli.progress``: a bar on a terminal, and a line now and then in a log."""

from __future__ import annotations

import sys
import time
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


def test_short_work_prints_nothing_if_stderr_is_no_terminal(monkeypatch, capsys) -> None:
    with progress(1) as step:
        step("first.png")
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_a_log_gets_a_line_when_half_a_minute_has_passed(monkeypatch, capsys) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress(200) as step, progress(None) as uncounted:
        for number in range(100):
            now += 1.0
            step(f"{number}.png")
            uncounted(f"{number} of many")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert "29 of 200: 29.png" in lines[0]
    assert lines[1].endswith("29 of many")
    assert "59 of 200: 59.png" in lines[2]


def test_work_without_stderr_goes_on(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress(1) as step:
        step("first.png")
