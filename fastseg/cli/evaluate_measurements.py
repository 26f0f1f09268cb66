"""``fastseg evaluate measurements``: measurements of models against a clinical table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import RenderableType

from fastseg.cli.arguments import into, json_option
from fastseg.cli.evaluation_options import OutFilesArguments, out_files_options
from fastseg.cli.report import DONE, SOME_FAILED, Report, Table
from fastseg.evaluation.agreement import PercentBase
from fastseg.evaluation.clinical import Values, compare, read_measurements
from fastseg.evaluation.report.agreement import MeasurementSummary, write_measurements
from fastseg.evaluation.summary import report_head
from fastseg.inputs.text import printable


@dataclass(frozen=True, kw_only=True)
class MeasurementArguments(OutFilesArguments):
    """Options of ``fastseg evaluate measurements``."""

    clinical: Path
    measured: tuple[str, ...]
    sd_multiple: float
    percent_base: PercentBase


@click.command()
@click.argument("clinical", type=click.Path(path_type=Path))
@click.option(
    "--measured",
    multiple=True,
    required=True,
    metavar="NAME=FILE",
    help="Values of a model: results.json of fastseg echo, or a CSV; several are put side by side.",
)
@click.option(
    "--sd-multiple",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Standard deviations to a limit of agreement; the code of the study has 1.96.",
)
@click.option(
    "--percent-base",
    type=click.Choice(get_args(PercentBase)),
    default="mean",
    show_default=True,
    help="Differences in percent of the mean of both values, or of the clinical one.",
)
@out_files_options
@json_option
@into(MeasurementArguments)
def measurements(arguments: MeasurementArguments) -> Report:
    """Compare the measurements of models with the table CLINICAL, patient by patient (Ferreira).

    CLINICAL is a CSV with the column patient and one for each measurement, or with the columns
    patient, measurement and value. Measurements and patients are matched by their names.
    """
    tables = dict(_named_tables(arguments.measured))
    arguments.check_out([arguments.clinical])
    clinical = read_measurements(arguments.clinical)
    options: dict[str, Any] = {
        "sd_multiple": arguments.sd_multiple,
        "percent_base": arguments.percent_base,
    }
    found = [compare(values, clinical, name=name, **options) for name, values in tables.items()]
    summary = MeasurementSummary(clinical, tables, tuple(found), {**report_head(), **options})
    if arguments.out is not None:
        places = {"page": arguments.page, "overwrite": arguments.overwrite}
        write_measurements(arguments.out, summary, **places)
    written = None if arguments.out is None else str(arguments.out)
    body = {**summary.as_dict(), "out": written}
    for name in ("notice", "versions"):
        body.pop(name)
    code = SOME_FAILED if summary.faults else DONE
    text = tuple(_agreement_text(summary, written))
    return Report("evaluate measurements", body, text, code, summary.faults)


def _named_tables(words: tuple[str, ...]) -> Iterator[tuple[str, Values]]:
    names = set()
    for word in words:
        name, equals, file = word.partition("=")
        if not equals or not name or name in names:
            raise click.UsageError(
                f"--measured {word}: write NAME=FILE, and every name once: --measured ours=o.csv"
            )
        names.add(name)
        yield name, read_measurements(file)


def _agreement_text(summary: MeasurementSummary, written: str | None) -> Iterator[RenderableType]:
    table = Table("measurement", "model", box=None, pad_edge=False)
    for heading in ("n", "r2", "bias", "limits", "bias %", "limits %"):
        table.add_column(heading, justify="right")
    for model in summary.models:
        for name, one in model.measurements.items():
            values = (one.units.bias, one.units.half_width)
            percents = (one.percent.bias, one.percent.half_width)
            numbers = (f"{one.r2:.3f}", *(f"{value:.3g}" for value in (*values, *percents)))
            table.add_row(name, model.model, str(one.n), *numbers)
    yield table
    for model in summary.models:
        total = model.summary()
        yield (
            f"\n{printable(model.model)}: r2 {total['r2']['mean']:.2f} on average, above "
            f"{total['r2_above']} in {total['r2_above_count']} of {total['measurements']}"
        )
    for pair, tests in summary.tests().items():
        listed = ", ".join(f"{name} p {test.p:.2g}" for name, test in tests.items())
        yield f"Mann-Whitney, {printable(pair)}: {listed}"
    if written is not None:
        yield f"results in {printable(written)}"
