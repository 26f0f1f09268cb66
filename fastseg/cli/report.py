"""Output of a verb: text for a person, or one JSON document for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import Any, TextIO

from rich import table
from rich.console import Console, RenderableType

from fastseg import environment, provenance
from fastseg.errors import OutputError
from fastseg.inputs.text import printable
from fastseg.results import to_json

DONE, SOME_FAILED, BAD_CALL, INTERRUPTED = 0, 1, 2, 130

_PLAIN_WIDTH = 10_000  # columns where no terminal is: a name is not broken over lines there


@dataclass(frozen=True, slots=True)
class Report:
    """Output of one verb."""

    verb: str
    body: Mapping[str, Any]
    """Content of the JSON document, beside the notice and the versions."""

    text: Sequence[RenderableType]
    """Lines and tables that are printed without ``--json``, in this order."""

    exit_code: int = DONE
    failures: Sequence[str] = field(default_factory=tuple)
    """Lines for stderr, one for each input that failed."""

    hints: Sequence[str] = field(default_factory=tuple)
    """Lines for stderr about results that are complete but probably not what the user wants."""

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return document(self.verb, self.body, self.exit_code)


def document(verb: str | None, body: Mapping[str, Any], exit_code: int) -> dict[str, Any]:
    """Put ``body`` into the envelope of every JSON document and every result folder."""
    return {
        "verb": verb,
        "exit_code": exit_code,
        "notice": provenance.NOTICE,
        "versions": environment.versions(),
        **body,
    }


class Table(table.Table):
    """A table of text from outside: every cell is one line that can be printed."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row, as rich does."""
        plain = (printable(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*plain, **options)


def show(report: Report, *, as_json: bool) -> int:
    """Print a report and return its exit code.

    Raises:
        OutputError: Standard output is closed.
    """
    for line in (*report.failures, *report.hints):
        print_error(line)
    if as_json:
        print_json(report.document())
    else:
        out = _stdout()
        width = None if out.isatty() else _PLAIN_WIDTH
        # Names and remedies hold brackets and colons, which rich takes for markup and emoji.
        console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
        for part in report.text:
            if isinstance(part, str):
                part = "\n".join(map(printable, part.split("\n")))
            console.print(part)
    return report.exit_code


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON document, and nothing else, on stdout.

    Raises:
        OutputError: Standard output is closed.
    """
    out = _stdout()
    text = to_json(content, indent=2)
    if (out.encoding or "utf-8").lower().replace("-", "") != "utf8":
        text = json.dumps(json.loads(text), indent=2)  # every other letter is escaped
    out.write(text + "\n")


def print_error(line: str) -> None:
    """Print one line on stderr, if it is open."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"fastseg: {printable(' '.join(line.splitlines()))}\n")


def accept_any_letter() -> None:
    """Escape the letters that the encoding of stdout and stderr does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def failure_line(name: str, error: BaseException) -> str:
    """Return the line for stderr about an input that failed; the input is named once."""
    message = _in_options(str(error))
    named = message.startswith((f"{name} ", f"{name}:"))
    return message if named else f"{name}: {message}"


def error_body(error: BaseException) -> dict[str, Any]:
    """Return the type and the message of an error, ready for JSON."""
    return {"error": {"type": type(error).__name__, "message": _in_options(str(error))}}


def _in_options(message: str) -> str:
    """Name the options of the command line where a message names arguments of Python."""
    message = message.replace("max_pixels=None", "--max-pixels 0")
    message = message.replace("(masks.best())", "(--best)")
    return message.replace("max_pixels=", "--max-pixels ")


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise OutputError("cannot print: standard output is closed. Open it, or give it a file.")
    return sys.stdout
