"""``fastseg doctor``: what is here, what is not, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from fastseg import diagnosis
from fastseg.cli.arguments import json_option
from fastseg.cli.report import Report


@click.command()
@json_option
def doctor() -> Report:
    """Say what is installed, what can run, and what to do about what cannot."""
    found = diagnosis.doctor()
    return Report("doctor", found, ("\n".join(_lines(found)),))


def _lines(tree: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A tree as indented text: one name a line."""
    for name, value in tree.items():
        label = str(name).replace("_", " ")
        if isinstance(value, Mapping):
            yield f"{indent}{label}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{label}: {', '.join(str(item) for item in value) or 'none'}"
        else:
            yield f"{indent}{label}: {value}"
