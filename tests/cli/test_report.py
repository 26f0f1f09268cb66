"""A report is printed as it is written."""

from __future__ import annotations

from rich.table import Table

from fastseg.cli.report import Report, show

COMMAND = "pip install -e '.[export]'"


def test_brackets_are_text_and_no_markup(capsys) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("openvino", COMMAND)
    assert show(Report("doctor", {}, (COMMAND, table)), as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(COMMAND in line for line in lines)
