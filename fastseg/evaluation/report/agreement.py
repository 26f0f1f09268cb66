"""Result folder of measurements: agreement as a table, a summary and a page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.evaluation.agreement import MannWhitney
from fastseg.evaluation.clinical import (
    GOOD_R2,
    STATISTICS,
    ModelAgreement,
    Values,
    contrast,
    paired,
    population,
)
from fastseg.evaluation.published import AGREEMENT, read_table
from fastseg.evaluation.report import figures
from fastseg.evaluation.report.figures import Drawing
from fastseg.evaluation.report.folder import (
    PAGE_FILE,
    SCORES_FILE,
    SUMMARY_FILE,
    check_out,
    write_rows,
)
from fastseg.evaluation.report.labels import measurement, number
from fastseg.evaluation.report.page import Table, TableRow, render
from fastseg.results import to_json
from fastseg.storage.atomic import atomic_folder

SOURCE = "Ferreira and Arnaout, arXiv 2311.04847"

_PRINTED = {"r2": "r2", "bias %": "bias", "limits %": "loa"}
"""Statistics by their names in the published table."""

_MOST_PLOTS = 25


@dataclass(frozen=True, slots=True)
class MeasurementSummary:
    """Agreement of one or several models with one clinical table."""

    clinical: Values
    measured: Mapping[str, Values]
    models: tuple[ModelAgreement, ...]
    head: Mapping[str, Any]

    @property
    def faults(self) -> tuple[str, ...]:
        """Sentences about measurements that could not be compared."""
        return tuple(dict.fromkeys(fault for model in self.models for fault in model.faults))

    def tests(self) -> dict[str, dict[str, MannWhitney]]:
        """Test each further model against the first."""
        first, *others = self.models
        return {f"{first.model} against {one.model}": contrast(first, one) for one in others}

    def as_dict(self) -> dict[str, Any]:
        """Return the document of ``summary.json``."""
        return {
            **self.head,
            "protocol": "measurements",
            "source": SOURCE,
            "models": [model.as_dict() for model in self.models],
            "mann_whitney": {
                pair: {name: {"u": test.u, "p": test.p} for name, test in tests.items()}
                for pair, tests in self.tests().items()
            },
            "population": {
                "clinical": population(self.clinical),
                **{name: population(values) for name, values in self.measured.items()},
            },
            "published": list(read_table(AGREEMENT)),
            "faults": list(self.faults),
        }


def write_measurements(
    out: str | os.PathLike[str],
    summary: MeasurementSummary,
    *,
    page: bool = True,
    overwrite: bool = False,
) -> None:
    """Write the result folder, whole or not at all.

    Raises:
        BackendUnavailableError: The page is asked for without the extra ``report``.
        OutputError: The folder is taken, or cannot be written.
    """
    check_out(Path(out))
    text = _page(summary) if page else ""
    rows = list(_rows(summary))
    with atomic_folder(out, replace=overwrite, last=SUMMARY_FILE) as folder:
        write_rows(folder / SCORES_FILE, list(rows[0]), rows)
        if text:
            (folder / PAGE_FILE).write_text(text, encoding="utf-8")
        document = to_json(summary.as_dict(), indent=2) + "\n"
        (folder / SUMMARY_FILE).write_text(document, encoding="utf-8")


def _rows(summary: MeasurementSummary) -> Iterator[dict[str, Any]]:
    for model in summary.models:
        for name, one in model.measurements.items():
            yield {
                "model": model.model,
                "measurement": name,
                "n": one.n,
                "left out": one.left_out,
                "r2": repr(one.r2),
                "slope": repr(one.slope),
                "bias": repr(one.units.bias),
                "limits": repr(one.units.half_width),
                "bias %": repr(one.percent.bias),
                "limits %": repr(one.percent.half_width),
            }


def _page(summary: MeasurementSummary) -> str:
    first = summary.models[0]
    total = first.summary()
    head = summary.head
    return render(
        {
            "title": f"measurements: {' and '.join(one.model for one in summary.models)}",
            "lead": (
                f"{first.model} has r2 above {GOOD_R2} in {total['r2_above_count']} of "
                f"{total['measurements']} measurements; r2 is {number(total['r2']['mean'])} on "
                "average."
            ),
            "facts": [
                ("protocol", f"measurements, after {SOURCE}"),
                ("limits", f"{head['sd_multiple']:g} standard deviations (divided by n)"),
                ("percent", f"of the {_base(str(head['percent_base']))}"),
                ("date", str(head["date"])),
            ],
            "tables": [_overall(summary), _by_measurement(summary), _populations(summary)],
            "figures": list(_drawings(summary)),
            "faults": summary.faults,
            "left_out": [],
            "notice": head["notice"],
        }
    )


def _base(word: str) -> str:
    return "mean of both values" if word == "mean" else "clinical value"


def _overall(summary: MeasurementSummary) -> Table:
    rows = []
    for model in summary.models:
        total = model.summary()
        for name in STATISTICS:
            spread = total[name]
            numbers = [number(spread[key]) for key in ("mean", "sd", "min", "max")]
            rows.append(TableRow((model.model, name), numbers))
        share = f"{total['r2_above_count']} of {total['measurements']}"
        rows.append(TableRow((model.model, f"r2 above {GOOD_R2}"), (share, "", "", "")))
    for pair, tests in summary.tests().items():
        for name, test in tests.items():
            text = f"p {test.p:.2g}, U {test.u:g}"
            rows.append(TableRow((pair, f"Mann-Whitney, {name}"), (text, "", "", "")))
    for name in STATISTICS:
        for row in read_table(AGREEMENT):
            if row["statistic"] == _PRINTED[name]:
                numbers = [row[key] for key in ("mean", "sd", "min", "max")]
                about = (f"{row['method']}, other patients", name)
                rows.append(TableRow(about, numbers, "published", "1"))
    return Table(
        "Over the measurements",
        "Mean, standard deviation and range. The test compares r2, and the sizes of bias and "
        "limits.",
        ("model", "statistic"),
        ("mean", "sd", "least", "largest"),
        rows,
        [SOURCE],
    )


def _by_measurement(summary: MeasurementSummary) -> Table:
    rows = [
        TableRow(
            (measurement(name), model.model),
            (
                str(one.n),
                number(one.r2),
                number(one.units.bias),
                number(one.units.half_width),
                number(one.percent.bias),
                number(one.percent.half_width),
            ),
        )
        for name in _names(summary)
        for model in summary.models
        if (one := model.measurements.get(name))
    ]
    return Table(
        "By measurement",
        "Bias is model minus clinical; limits are half of the width of the limits of agreement.",
        ("measurement", "model"),
        ("n", "r2", "bias", "limits", "bias %", "limits %"),
        rows,
    )


def _populations(summary: MeasurementSummary) -> Table:
    tables = {
        table: population(values)
        for table, values in {"clinical": summary.clinical, **summary.measured}.items()
    }
    names = dict.fromkeys(name for found in tables.values() for name in found)
    rows = [
        TableRow(
            (measurement(name), table),
            (
                str(one["n"]),
                *(number(one[key]) for key in ("mean", "sd", "median", "q1", "q3")),
            ),
        )
        for name in names
        if any(found[name]["n"] for found in tables.values() if name in found)
        for table, found in tables.items()
        if (one := found.get(name))
    ]
    return Table(
        "Population",
        "Values of all patients that have one; a measurement without any is left out.",
        ("measurement", "table"),
        ("n", "mean", "sd", "median", "quartile 1", "quartile 3"),
        rows,
    )


def _drawings(summary: MeasurementSummary) -> Iterator[Drawing]:
    names = _names(summary)
    shown = [measurement(name) for name in names]
    r2: dict[str, Sequence[float]] = {
        model.model: [_of(model.statistic("r2"), name) for name in names]
        for model in summary.models
    }
    yield figures.agreement_bands(
        shown, r2, level=GOOD_R2, caption=f"r2 by measurement; the band begins at {GOOD_R2}."
    )
    for model in summary.models:
        own = model.measurements
        yield figures.bias_bars(
            [measurement(name) for name in own],
            [one.percent.bias for one in own.values()],
            [one.percent.sd for one in own.values()],
            caption=f"{model.model}: bias in percent with 1 (dark) and 2 (light) standard "
            "deviations.",
        )
        for name in list(own)[:_MOST_PLOTS]:
            x, y = paired(summary.measured[model.model], summary.clinical, name)
            yield figures.scatter(
                np.array(x),
                np.array(y),
                title=f"{model.model}: {measurement(name)}",
                sd_multiple=float(summary.head["sd_multiple"]),
                caption=f"{measurement(name)}: values with the line of equality (dotted) and the "
                "fitted line; differences with their bias and limits of agreement.",
            )


def _names(summary: MeasurementSummary) -> list[str]:
    """List the measurements that some model agrees in, in the order of the clinical table."""
    return [
        name for name in summary.clinical if any(name in m.measurements for m in summary.models)
    ]


def _of(values: Mapping[str, float], name: str) -> float:
    return values.get(name, float("nan"))
