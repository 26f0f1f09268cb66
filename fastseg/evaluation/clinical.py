"""Tables of measurements, and how well those of a model agree with clinical ones."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.errors import MeasurementError
from fastseg.evaluation.aggregation import Spread
from fastseg.evaluation.agreement import (
    Agreement,
    MannWhitney,
    PercentBase,
    agreement,
    mann_whitney,
    spread_over,
)

GOOD_R2 = 0.6
"""r2 above which a measurement counts as well correlated, as in Ferreira and Arnaout."""

PATIENT = "patient"
"""Column that names the patients."""

Values = Mapping[str, Mapping[str, float]]
"""Of each measurement the value of each patient; NaN where there is none."""

STATISTICS = ("r2", "bias %", "limits %")
"""Statistics that are summarised over the measurements: half the width of the limits is meant."""


@dataclass(frozen=True, slots=True)
class ModelAgreement:
    """Agreement of one model with the clinical table."""

    model: str
    measurements: Mapping[str, Agreement]
    faults: tuple[str, ...]
    """A sentence for each measurement that could not be compared."""

    def statistic(self, name: str) -> dict[str, float]:
        """Return one of ``STATISTICS`` of each measurement."""
        found = {}
        for measurement, one in self.measurements.items():
            values = {"r2": one.r2, "bias %": one.percent.bias, "limits %": one.percent.half_width}
            found[measurement] = values[name]
        return found

    def summary(self) -> dict[str, Any]:
        """Summarise the statistics over the measurements."""
        r2 = self.statistic("r2")
        return {
            "measurements": len(r2),
            "r2_above": GOOD_R2,
            "r2_above_count": sum(value > GOOD_R2 for value in r2.values()),
            **{name: spread_over(list(self.statistic(name).values())) for name in STATISTICS},
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the agreement, ready for JSON."""
        return {
            "model": self.model,
            "summary": self.summary(),
            "measurements": {name: one.as_dict() for name, one in self.measurements.items()},
            "faults": list(self.faults),
        }


def read_measurements(path: str | os.PathLike[str]) -> Values:
    """Read a table of measurements, or the ``measurements.json`` of ``fastseg echo``.

    A row of a table is a patient (columns ``patient`` and one for each measurement) or one value
    (columns ``patient``, ``measurement``, ``value``). An empty cell, ``nan`` and ``NA`` are no
    value.

    Raises:
        MeasurementError: The file cannot be read, lacks a column, holds text where a number
            belongs, or names a patient's measurement twice.
    """
    file = Path(path)
    if file.suffix.lower() == ".json":
        return _read_report(file)
    columns, rows = _read_rows(file)
    is_long = {"measurement", "value"} <= set(columns)
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        patient = str(row[PATIENT] or "").strip()
        cells = (
            [(str(row["measurement"] or "").strip(), row["value"])]
            if is_long
            else [(name, row[name]) for name in columns if name != PATIENT]
        )
        for name, cell in cells:
            value = _number(cell, f"{file}: {name} of the patient {patient}")
            _put(found, name, patient, value, file)
    if not found:
        raise MeasurementError(f"{file} holds no measurement.")
    return found


def only(values: Values, names: Iterable[str]) -> Values:
    """Keep the measurements of a list, in its order.

    Raises:
        MeasurementError: The table holds none of them.
    """
    found = {name: values[name] for name in names if name in values}
    if not found:
        raise MeasurementError(
            f"none of {', '.join(values)} is among the measurements of the study, whose names are "
            "those of fastseg echo. Rename the columns, or compare all names."
        )
    return found


def _read_rows(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            columns = [name.strip() for name in reader.fieldnames or ()]
            rows = [{(k or "").strip(): v for k, v in row.items()} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise MeasurementError(f"{file} cannot be read: {error}. Give a CSV file.") from error
    if PATIENT not in columns:
        raise MeasurementError(f"{file} has no column {PATIENT}. It names the patient of each row.")
    return columns, rows


def _read_report(file: Path) -> Values:
    """Read the values of the studies in a report of ``fastseg echo``."""
    found: dict[str, dict[str, float]] = {}
    try:
        studies = json.loads(file.read_text(encoding="utf-8"))["studies"]
        values = [
            (str(name), str(study["patient"]), row["value"])
            for study in studies
            for name, row in study["rows"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MeasurementError(
            f"{file} is no report of fastseg echo: {error!r}. Give its measurements.json, or a CSV."
        ) from error
    for name, patient, value in values:
        _put(found, name, patient, math.nan if value is None else float(value), file)
    if not found:
        raise MeasurementError(f"{file} holds no measurement.")
    return found


def _put(
    found: dict[str, dict[str, float]], name: str, patient: str, value: float, file: Path
) -> None:
    values = found.setdefault(name, {})
    if patient in values:
        raise MeasurementError(f"{file} has {name} of the patient {patient} twice.")
    values[patient] = value


def compare(
    model: Values,
    clinical: Values,
    *,
    name: str = "model",
    sd_multiple: float = 2.0,
    percent_base: PercentBase = "mean",
) -> ModelAgreement:
    """Compare the measurements that two tables have in common, patient by patient.

    Measurements with fewer than 3 common patients, and those of one table alone, are named as
    faults, a sentence for each reason. The options are those of ``agreement``.

    Raises:
        MeasurementError: The tables have no measurement in common that can be compared.
    """
    measurements = {}
    refused: dict[str, list[str]] = {}
    for one in clinical:
        if one not in model:
            continue
        patients = list(dict.fromkeys((*clinical[one], *model[one])))
        x, y = ([table[one].get(who, math.nan) for who in patients] for table in (model, clinical))
        try:
            measurements[one] = agreement(x, y, sd_multiple=sd_multiple, percent_base=percent_base)
        except MeasurementError as error:
            refused.setdefault(str(error), []).append(one)
    absent = [one for one in clinical if one not in model]
    unasked = [one for one in model if one not in clinical]
    faults = [f"{name} has no {', '.join(absent)}."] if absent else []
    faults += [f"the clinical table has no {', '.join(unasked)}."] if unasked else []
    faults += [f"{name}, {', '.join(ones)}: {reason}" for reason, ones in refused.items()]
    if not measurements:
        reason = faults[0] if faults else "they are empty."
        raise MeasurementError(f"no measurement of {name} can be compared: {reason}")
    return ModelAgreement(name, measurements, tuple(faults))


def contrast(first: ModelAgreement, second: ModelAgreement) -> dict[str, MannWhitney]:
    """Test whether two models differ in each statistic over the measurements.

    The bias is tested by its absolute value, so that errors of both signs do not cancel.
    """
    found = {}
    for name in STATISTICS:
        samples = []
        for one in (first, second):
            values = np.array(list(one.statistic(name).values()))
            samples.append(np.abs(values[np.isfinite(values)]))
        if all(len(sample) for sample in samples):
            found[name] = mann_whitney(*samples)
    return found


def population(values: Values) -> dict[str, dict[str, float]]:
    """Summarise each measurement over the patients: n, mean, sd (n - 1), median, quartiles."""
    found = {}
    for name, patients in values.items():
        spread = Spread.of(patients.values())
        known = np.array([value for value in patients.values() if not math.isnan(value)])
        sd = float(known.std(ddof=1)) if len(known) > 1 else math.nan
        found[name] = {**spread.as_dict(), "sd": sd}
    return found


def paired(model: Values, clinical: Values, name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return the values of patients that have both, in the order of the clinical table."""
    both = [
        (model[name][who], value)
        for who, value in clinical[name].items()
        if math.isfinite(value) and math.isfinite(model[name].get(who, math.nan))
    ]
    return [x for x, _ in both], [y for _, y in both]


def _number(cell: str | None, what: str) -> float:
    text = (cell or "").strip()
    if text.lower() in ("", "nan", "na", "n/a"):
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise MeasurementError(f"{what} is {text!r}, which is no number.") from error
    return value if math.isfinite(value) else math.nan
