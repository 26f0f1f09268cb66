"""Output of a verb: text for a person, or one JSON document for a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, RenderableType

from fastseg import environment, provenance
from fastseg.results import to_json

DONE, SOME_FAILED, BAD_CALL, INTERRUPTED = 0, 1, 2, 130

_PLAIN_WIDTH = 120  # columns of output that does not go to a terminal


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


def show(report: Report, *, as_json: bool) -> int:
    """Print a report and return its exit code."""
    for line in (*report.failures, *report.hints):
        print_error(line)
    if as_json:
        print_json(report.document())
    else:
        width = None if sys.stdout.isatty() else _PLAIN_WIDTH
        # Names and remedies hold brackets and colons, which rich takes for markup and emoji.
        console = Console(width=width, highlight=False, markup=False, emoji=False)
        for part in report.text:
            console.print(part)
    return report.exit_code


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON document, and nothing else, on stdout."""
    sys.stdout.write(to_json(content, indent=2) + "\n")


def print_error(line: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"fastseg: {line}\n")


def failure_line(name: str, error: BaseException) -> str:
    """Return the line for stderr about an input that failed; the input is named once."""
    message = str(error)
    named = message.startswith((f"{name} ", f"{name}:"))
    return message if named else f"{name}: {message}"


def error_body(error: BaseException) -> dict[str, Any]:
    """Return the type and the message of an error, ready for JSON."""
    return {"error": {"type": type(error).__name__, "message": str(error)}}
