"""Progress of long work, on stderr, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastseg.inputs.text import printable


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[str], None]]:
    """Show a bar while the block runs, if stderr is a terminal.

    Args:
        total: Number of steps, or None if it is not known.

    Yields:
        A function to call with the name of each step, in a few words, as the step begins.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
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
