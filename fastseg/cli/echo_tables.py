"""Tables of a study, for a person."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath

from rich.console import RenderableType

from fastseg.cli.report import Table
from fastseg.echo.findings import Finding
from fastseg.echo.report import SEPARATOR, Row, Study
from fastseg.inputs.text import printable

MAX_FRAMES_SHOWN = 4
"""Largest study shown whole; of a larger one only the frames that its rows use are shown."""


def tables(study: Study) -> Iterator[RenderableType]:
    """Yield the chambers, the rows with a value, and the reasons of the rows without one."""
    yield f"\n{printable(study.patient)}"
    yield from (f"caution: {printable(one)}" for one in study.cautions)
    yield _chambers(study)
    found = [row for row in study.rows if not math.isnan(row.value)]
    if found:
        yield ""
        yield _values(found)
    missing = [row for row in study.rows if math.isnan(row.value)]
    if missing:
        share = f"{len(missing)} of {len(study.rows)} measurements"
        yield f"\nwithout a value: {share}, for these reasons (--json lists each):"
        counts = Counter(part for row in missing for part in row.reason.split(SEPARATOR))
        yield "\n".join(f"  {reason} ({count})" for reason, count in counts.most_common())


def _chambers(study: Study) -> Table:
    table = Table("frame", "view", "chamber", box=None, pad_edge=False)
    for heading in ("area cm2", "length cm", "volume mL", "eccentricity", "solidity", "score"):
        table.add_column(heading, justify="right")
    for finding in _shown_findings(study):
        chamber = finding.measurement
        numbers = (
            f"{chamber.area_cm2:.2f}",
            f"{chamber.length_cm:.2f}",
            f"{finding.volume_ml:.1f}" if finding.place.view != "sax" else "",
            f"{chamber.eccentricity:.3f}",
            f"{chamber.solidity:.3f}",
            f"{finding.score:.3f}",
        )
        cells = ("-" if number == "nan" else number for number in numbers)
        frame = PurePath(str(finding.place)).name
        table.add_row(frame, finding.place.view, chamber.name, *cells)
    return table


def _shown_findings(study: Study) -> Iterator[Finding]:
    places = {str(finding.place) for finding in study.findings}
    if len(places) > MAX_FRAMES_SHOWN:
        places = {frame for row in study.rows for frame in row.frames}
    return (finding for finding in study.findings if str(finding.place) in places)


def _values(rows: list[Row]) -> Table:
    table = Table("measurement", box=None, pad_edge=False)
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("over beats")
    table.add_column("caution")
    for row in rows:
        spread = f"{row.low:.1f} to {row.high:.1f} ({row.beats})" if row.beats > 1 else ""
        table.add_row(row.title, f"{row.value:.1f}", row.unit, spread, row.caution)
    return table
