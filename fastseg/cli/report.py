"""What a verb answers: text for a person, or one JSON document for a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, RenderableType

from fastseg import environment, provenance
from fastseg.results import to_json

DONE, SOME_FAILED, BAD_CALL, INTERRUPTED = 0, 1, 2, 130

_PLAIN_WIDTH = 120  # columns of text that does not go to a terminal


@dataclass(frozen=True, slots=True)
class Report:
    """The answer of one verb."""

    verb: str
    body: Mapping[str, Any]
    """What ``--json`` prints beside the notice and the versions."""

    text: Sequence[RenderableType]
    """What is printed otherwise, one after the other."""

    exit_code: int = DONE
    failures: Sequence[str] = field(default_factory=tuple)
    """Lines for stderr, one for each input that failed."""

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return document(self.verb, self.body, self.exit_code)


def document(verb: str | None, body: Mapping[str, Any], exit_code: int) -> dict[str, Any]:
    """Put ``body`` into the envelope that every JSON answer and every result folder has."""
    return {
        "verb": verb,
        "exit_code": exit_code,
        "notice": provenance.NOTICE,
        "versions": environment.versions(),
        **body,
    }


def show(report: Report, *, as_json: bool) -> int:
    """Print a report and give its exit code."""
    for line in report.failures:
        complain(line)
    if as_json:
        print_json(report.document())
    else:
        width = None if sys.stdout.isatty() else _PLAIN_WIDTH
        console = Console(width=width, highlight=False, markup=False)
        for part in report.text:
            console.print(part)
    return report.exit_code


def print_json(answer: Mapping[str, Any]) -> None:
    """Print one JSON document, and nothing else, on stdout."""
    sys.stdout.write(to_json(answer, indent=2) + "\n")


def complain(line: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"fastseg: {line}\n")


def error_body(error: BaseException) -> dict[str, Any]:
    """An error for a program: its type and its message."""
    return {"error": {"type": type(error).__name__, "message": str(error)}}
