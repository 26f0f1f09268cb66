"""Environment of the benchmarks, printed once, and their tables, printed at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastseg import environment
from fastseg.backends.telemetry import telemetry_off

Line = Sequence[str]
_TABLES = pytest.StashKey[list[tuple[str, list[Line]]]]()


def pytest_configure(config: pytest.Config) -> None:
    stack = ExitStack()
    stack.enter_context(telemetry_off())
    config.add_cleanup(stack.close)
    config.stash[_TABLES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lift the limit of time of the tests: measurements may take longer on a slow processor."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(0))


def pytest_report_header() -> str:
    return f"environment: {environment.line()}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[_TABLES]:
        terminalreporter.write_sep("=", "measured")
        terminalreporter.write_line(environment.line())
    for title, rows in config.stash[_TABLES]:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        terminalreporter.write_line(f"\n{title}")
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            terminalreporter.write_line("  " + "  ".join(cells).rstrip())


@pytest.fixture
def table(pytestconfig: pytest.Config) -> Callable[[str, list[Line]], None]:
    """Print a table after the last benchmark: ``table(title, [heading, row, ...])``."""

    def add(title: str, rows: list[Line]) -> None:
        pytestconfig.stash[_TABLES].append((title, rows))

    return add
