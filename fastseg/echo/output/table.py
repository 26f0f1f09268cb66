"""A report as CSV: one line a measurement."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from fastseg.echo.report import Study
from fastseg.echo.report.rows import joined
from fastseg.provenance import NOTICE

COLUMNS = (
    "patient", "measurement", "value", "unit", "low", "high", "beats", "caution", "reason",
    "frames", "notice",
)  # fmt: skip
"""Heads of the columns, in order."""


def as_csv(studies: Iterable[Study]) -> str:
    """Write every row of some studies as CSV (RFC 4180), with the heads first.

    A number has all its digits; one that is missing is empty and has its reason. Frames are
    separated by ``|``. Cautions of the whole study stand in each of its rows.
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for study in studies:
        for row in study.rows:
            numbers = [_number(one) for one in (row.value, row.low, row.high)]
            writer.writerow(
                [
                    _text(study.patient),
                    row.name,
                    numbers[0],
                    row.unit,
                    *numbers[1:],
                    row.beats or "",
                    _text(joined((row.caution, *study.cautions))),
                    _text(row.reason),
                    _text("|".join(row.frames)),
                    NOTICE,
                ]
            )
    return stream.getvalue()


def _number(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _text(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{plain}" if plain[:1] in ("=", "+", "-", "@", "\t", "\r") else plain
