"""Progress of long work on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastseg.cli.report import print_error
from fastseg.inputs.text import printable

LINE_EVERY_S = 30.0
"""Seconds between two lines where stderr is no terminal."""


@contextmanager
def progress(total: int | None, *, counted: bool = True) -> Iterator[Callable[[str], None]]:
    """Show a bar while the block runs, or print a line every ``LINE_EVERY_S`` seconds.

    Args:
        total: Number of steps, or None if it is not known.
        counted: Put the number of steps before the words of a line; False where they hold it.

    Yields:
        A function to call with the name of each step, in a few words, as the step begins.
    """
    if sys.stderr is None:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield _Log(total if counted else None).step
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    count = (MofNCompleteColumn(),) if total else ()
    console = Console(stderr=True)
    with Progress(*columns, *count, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def step(text: str) -> None:
            nonlocal begun
            bar.update(task, description=printable(text), completed=begun)
            begun += 1

        yield step


class _Log:
    """Lines of progress for a log."""

    def __init__(self, total: int | None) -> None:
        self._total, self._begun = total, 0
        self._next = time.monotonic() + LINE_EVERY_S

    def step(self, text: str) -> None:
        """Print a line if it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY_S
            count = f"{self._begun} of {self._total}: " if self._total else ""
            print_error(f"{count}{printable(text)}")
        self._begun += 1
