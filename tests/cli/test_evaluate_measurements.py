"""Promises of ``fastseg evaluate measurements``: agreement with a clinical table."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from fastseg.cli.root import run
from fastseg.errors import MeasurementError
from fastseg.evaluation.clinical import compare, contrast, population, read_measurements

NAMES = ("LVEDV", "LVESV", "LVEF", "LAV")


def table(seed: int, noise: float, patients: int = 12) -> dict[str, list[float]]:
    truth = np.random.default_rng(0).uniform(40, 160, (patients, len(NAMES)))
    drawn = truth + noise * np.random.default_rng(seed).normal(size=truth.shape)
    return {f"p{row}": values.tolist() for row, values in enumerate(drawn)}


def write(path: Path, values: dict[str, list[float]], names: tuple[str, ...] = NAMES) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", *names])
        writer.writerows([[who, *cells] for who, cells in values.items()])
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {
        "clinical": write(tmp_path / "clinical.csv", table(0, 0.0)),
        "good": write(tmp_path / "good.csv", table(1, 5.0)),
        "poor": write(tmp_path / "poor.csv", table(2, 60.0)),
    }


def call(*words: object) -> int:
    return run([str(word) for word in words])


def test_two_models_are_compared_with_the_clinic_and_with_each_other(files, tmp_path, capsys):
    named = [word for name in ("good", "poor") for word in ("--measured", f"{name}={files[name]}")]
    out = tmp_path / "out"
    assert call("evaluate", "measurements", files["clinical"], *named, "--out", out) == 0
    assert "Mann-Whitney, good against poor" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    good, poor = summary["models"]
    assert good["summary"]["r2_above_count"] == 4
    assert poor["summary"]["r2"]["mean"] < good["summary"]["r2"]["mean"]
    r2 = [[one["r2"] for one in model["measurements"].values()] for model in (good, poor)]
    expected = scipy.stats.mannwhitneyu(*r2, method="asymptotic")
    test = summary["mann_whitney"]["good against poor"]["r2"]
    assert (test["u"], test["p"]) == (expected.statistic, pytest.approx(expected.pvalue))
    page = (out / "report.html").read_text()
    assert "0.39" in page  # r2 of SAM as printed
    assert page.count("<img") == 1 + 2 * (1 + 4)
    assert set(summary["population"]) == {"clinical", "good", "poor"}


def test_values_of_the_columns_agree_with_scipy(files):
    model, clinical = (read_measurements(files[name]) for name in ("good", "clinical"))
    found = compare(model, clinical, name="good")
    x, y = (list(one["LVEF"].values()) for one in (model, clinical))
    assert found.measurements["LVEF"].r2 == pytest.approx(scipy.stats.pearsonr(x, y)[0] ** 2)
    assert contrast(found, found)["bias %"].p == pytest.approx(1)


def test_one_value_a_row_is_read_as_well(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("patient,measurement,value,unit\na,EF,55,%\nb,EF,,%\na,LAV,NA,mL\n")
    values = read_measurements(path)
    assert values["EF"]["a"] == 55
    assert math.isnan(values["EF"]["b"])
    assert math.isnan(values["LAV"]["a"])


def test_the_report_of_fastseg_echo_is_a_table(tmp_path):
    rows = {"lv_ef_percent": {"value": 61.5, "reason": ""}, "la_volume_ml": {"value": None}}
    report = {"verb": "echo", "studies": [{"patient": "a", "rows": rows, "findings": []}]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(report))
    values = read_measurements(path)
    assert values["lv_ef_percent"] == {"a": 61.5}
    assert math.isnan(values["la_volume_ml"]["a"])


def test_a_measurement_of_two_patients_is_named_and_the_rest_is_done(files, tmp_path, capsys):
    few = table(1, 5.0)
    for who in list(few)[2:]:
        few[who][1] = math.nan
    write(files["good"], few)
    words = ("evaluate", "measurements", files["clinical"], "--measured", f"good={files['good']}")
    assert call(*words, "--json") == 1
    printed = capsys.readouterr()
    assert "good, LVESV: 2 patients have both values" in printed.err
    assert set(json.loads(printed.out)["models"][0]["measurements"]) == set(NAMES) - {"LVESV"}


def test_measurements_of_one_table_alone_are_named(files, tmp_path):
    other = write(tmp_path / "o.csv", table(1, 5.0), ("LVEDV", "RVEDA", "LVEF", "LAV"))
    clinical = read_measurements(files["clinical"])
    found = compare(read_measurements(other), clinical, name="ours")
    assert set(found.faults) == {"ours has no LVESV.", "the clinical table has no RVEDA."}


def test_measurements_that_fail_alike_share_a_sentence(files, tmp_path):
    few = {who: [EF, math.nan, math.nan, math.nan] for who, (_, _, EF, _) in table(1, 5.0).items()}
    columns = ("LVEF", "LVEDV", "LVESV", "LAV")
    ours = read_measurements(write(tmp_path / "few.csv", few, columns))
    found = compare(ours, read_measurements(files["clinical"]), name="ours")
    (fault,) = found.faults
    assert fault.startswith("ours, LVEDV, LVESV, LAV: 0 patients have both values")


def test_the_page_names_measurements_and_leaves_out_those_without_a_value(tmp_path):
    names = ("lv_ef_percent", "la_ef_percent", "rv_eda_cm2", "my own")
    files = []
    for seed in (0, 1):
        cells = {who: [a, b, math.nan, d] for who, (a, b, _, d) in table(seed, 5.0 * seed).items()}
        files.append(write(tmp_path / f"{seed}.csv", cells, names))
    out = tmp_path / "out"
    words = ("evaluate", "measurements", files[0], "--measured", f"ours={files[1]}", "--out", out)
    assert call(*words) == 1
    page = (out / "report.html").read_text()
    population = page[page.index("Population") : page.index("Not evaluated")]
    for shown in ("LV ejection fraction, %", "LA emptying fraction, %", "my own"):
        assert shown in population
    assert "RV area" not in population
    assert "rv_eda_cm2" in page[page.index("Not evaluated") :]


def test_a_population_is_summarised_over_its_patients():
    (found,) = population({"EF": {"a": 50, "b": 60, "c": math.nan, "d": 70}}).values()
    expected = {"n": 3, "undefined": 1, "mean": 60, "median": 60, "q1": 55, "q3": 65, "sd": 10}
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,EF\na,1\n", "no column patient"),
        ("patient,EF\na,much\n", "is 'much', which is no number"),
        ("patient,EF\na,1\na,2\n", "patient a twice"),
        ("patient,EF\n", "holds no measurement"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(MeasurementError, match=message):
        read_measurements(path)


def test_tables_without_a_common_measurement_are_refused(files, tmp_path, capsys):
    other = write(tmp_path / "o.csv", table(1, 5.0), ("a", "b", "c", "d"))
    words = ("evaluate", "measurements", files["clinical"], "--measured")
    assert call(*words, f"ours={other}") == 2
    assert "no measurement of ours" in capsys.readouterr().err
    assert call(*words, files["good"]) == 2
    assert "NAME=FILE" in capsys.readouterr().err


def test_the_25_measurements_of_the_study_have_the_names_of_echo_and_their_units():
    from fastseg.echo import study
    from fastseg.evaluation.published import read_table, study_measurements

    rows = {row.name: row for row in study([]).rows}
    names = study_measurements()
    assert len(set(names)) == 25
    assert set(names) <= set(rows)
    for one in read_table("ferreira_measurements"):
        unit = rows[one["measurement"]].unit.replace("²", "2")
        assert one["unit"] == unit, one["measurement"]


def test_the_study_list_leaves_other_measurements_out(tmp_path, capsys):
    names = ("lv_ef_percent", "la_ef_percent", "heart_rate")
    files = []
    for number, called in enumerate(("clinical", "ours")):
        values = {who: cells[:3] for who, cells in table(number, 5.0 * number).items()}
        files.append(write(tmp_path / f"{called}.csv", values, names))
    words = ("evaluate", "measurements", files[0], "--measured", f"ours={files[1]}")
    assert call(*words, "--names", "study", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert list(found["measurements"]) == ["lv_ef_percent", "la_ef_percent"]
    other = write(tmp_path / "other.csv", table(0, 0.0))
    words = ("evaluate", "measurements", other, "--measured", f"ours={other}", "--names", "study")
    assert call(*words) == 2
    assert "none of LVEDV, LVESV, LVEF, LAV is among" in capsys.readouterr().err
